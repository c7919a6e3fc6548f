"""Several labels an image, from the manifest to the prediction: thresholds, each label, and what is undefined."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import gossamer.evaluation.classification as evaluation
from gossamer.cli.main import run
from gossamer.data import ClassificationDataset, open_dataset
from gossamer.evaluation.bootstrap import bootstrap_metrics
from gossamer.training.options import TrainOptions
from gossamer.training.plan import plan_run

LABELS = ("mass", "nodule", "scar")
"""A mass is bright and in a third of the images, a nodule is faint and rarer, a scar is in training images only."""


@pytest.fixture(scope="module")
def _few_resamples() -> Iterator[None]:
    """Intervals are tested elsewhere; 1000 resamples of every evaluation would take most of this file's time."""

    def few(metrics: Any, groups: Any, *, resamples: int, seed: int) -> Any:
        return bootstrap_metrics(metrics, groups, resamples=min(20, resamples), seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "bootstrap_metrics", few)
        yield


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 120 images of 16x20 pixels, two a patient; do not write into it."""
    folder = tmp_path_factory.mktemp("multi") / "chest"
    folder.mkdir()
    generator = np.random.default_rng(2)
    rows = [["path", "label", "patient", "split"]]
    for number in range(120):
        split = "train" if number < 64 else "val" if number < 92 else "test"
        has = generator.random(3) < (0.35, 0.2, 0.1 if split == "train" else 0)
        pixels = generator.normal(90, 12, (16, 20))
        for label, (row, column, light) in zip(has, ((3, 4, 90), (10, 14, 25), (12, 2, 60)), strict=True):
            pixels[row : row + 4, column : column + 4] += light * label
        tifffile.imwrite(folder / f"{number:03d}.tif", np.clip(pixels, 0, 255).astype(np.uint8))
        names = "|".join(name for name, there in zip(LABELS, has, strict=True) if there)
        rows.append([f"{number:03d}.tif", names or "-", f"p{number // 2}", split])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def finished(chest: Path, tmp_path_factory: pytest.TempPathFactory, _few_resamples: None) -> Path:
    """The run folder of a small network that was trained on ``chest``; do not write into it."""
    folder = tmp_path_factory.mktemp("multi-run") / "run"
    options = ["--model", "vit_nano", "--epochs", "2", "--batch-size", "8", "--precision", "float32", "--threads", "1"]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert run(["train", str(chest), "--out", str(folder), *options]) == 0
    (folder.parent / "told.txt").write_text(told.getvalue())
    return folder


def test_every_note_of_the_summary_was_said(finished: Path) -> None:
    told = (finished.parent / "told.txt").read_text()
    notes = [note["text"] for note in json.loads((finished / "summary.json").read_text())["notes"]]
    assert any(note.startswith("no validation image has") for note in notes)
    assert [note for note in notes if told.count(note) != 1] == []


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--threads", "1", "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def table(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return truth, probabilities and predictions of a file of predictions."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    truth = np.array([[name in row["truth"].split("|") for name in LABELS] for row in rows])
    probabilities = np.array([[float(row[f"p({name})"]) for name in LABELS] for row in rows])
    return truth, probabilities, [row["prediction"] for row in rows]


def joined(called: np.ndarray) -> list[str]:
    return ["|".join(np.array(LABELS)[row]) or "-" for row in called]


def f1(called: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (called & truth).sum() / max(1, called.sum() + truth.sum())


def test_thresholds_are_the_best_of_the_validation_split(
    chest: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "evaluate", str(finished), str(chest), "--split", "val", "--out", str(tmp_path / "val.csv"))
    truth, probabilities, _ = table(tmp_path / "val.csv")
    chosen = json.loads((finished / "thresholds.json").read_text())
    assert chosen["labels"] == list(LABELS)
    for k in (0, 1):
        best = max(f1(probabilities[:, k] >= score, truth[:, k]) for score in probabilities[:, k])
        assert f1(probabilities[:, k] > chosen["values"][k], truth[:, k]) == pytest.approx(best)
    assert chosen["kept"] == ["scar"]
    assert chosen["values"][2] == 0.5
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["thresholds"] == chosen
    assert "no validation image has scar: its threshold stays 0.5" in [note["text"] for note in summary["notes"]]


def test_the_test_split_is_decided_by_them(finished: Path) -> None:
    truth, probabilities, said = table(finished / "predictions.csv")
    summary = json.loads((finished / "summary.json").read_text())
    called = probabilities > summary["thresholds"]["values"]
    assert said == joined(called)
    assert (called != (probabilities > 0.5)).any()  # or this would show nothing
    assert summary["metrics"]["accuracy"]["value"] == pytest.approx((called == truth).mean(), abs=1e-6)
    assert summary["metrics"]["f1"]["value"] == pytest.approx(
        np.mean([f1(called[:, k], truth[:, k]) for k in (0, 1)]), abs=1e-6
    )
    assert summary["nothing"]["accuracy"] == pytest.approx((~truth).mean(), abs=1e-6)
    assert summary["groups"] == 14
    for k, name in enumerate(LABELS[:2]):
        label = summary["labels"][name]
        assert label["positives"] == truth[:, k].sum()
        assert label["sensitivity"]["value"] == pytest.approx(called[truth[:, k], k].mean())
        assert label["auroc"]["low"] - 1e-6 <= label["auroc"]["value"] <= label["auroc"]["high"] + 1e-6


def test_a_label_that_no_test_image_has_is_a_dash_and_never_a_number(
    chest: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    scar = summary["labels"]["scar"]
    assert (scar["positives"], scar["prevalence"], scar["threshold_chosen"]) == (0, 0, False)
    for name in ("auroc", "average_precision", "sensitivity", "f1"):
        assert scar[name] == {"value": None, "low": None, "high": None}
    page = (finished / "report.html").read_text()
    assert ">nan" not in page.lower()
    assert "nan –" not in page
    cells = page[page.index("<h2>Each label</h2>") :].split("<td>scar</td>")[1].split("</tr>")[0].split("<td")
    assert sum(">–<" in cell for cell in cells) == 4
    capsys.readouterr()
    assert run(["evaluate", str(finished), str(chest), "--threads", "1"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("scar")]
    assert line.count("–") == 4
    assert "0.5 kept" in line
    assert "nan" not in line


def test_report_shows_thresholds_and_undefined_labels(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    summary = json.loads((finished / "summary.json").read_text())
    assert page.count("<svg") == 4
    for name, label in summary["labels"].items():
        cells = page[page.index("<h2>Each label</h2>") :].split(f"<td>{name}</td>")[1].split("</tr>")[0]
        assert f"{label['threshold']:.3f}" in cells
        assert ("default" in cells) != label["threshold_chosen"]
    for value in summary["nothing"].values():
        assert f"{value:.3f}" in page


def test_positives_weigh_as_many_times_as_there_are_negatives(chest: Path, finished: Path) -> None:
    weights = json.loads((finished / "summary.json").read_text())["training"]["class_weights"]
    data = open_dataset(chest, task="classify")
    assert isinstance(data, ClassificationDataset)
    for name, count in zip(data.classes, data.class_counts("train"), strict=True):
        assert weights[name] == pytest.approx((64 - count) / count)
        assert weights[name] > 1


def test_predict_and_evaluate_read_the_thresholds_back(
    chest: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    pictures = [str(path) for path in sorted(chest.glob("*.tif"))[92:104]]
    _, probabilities, said = table(finished / "predictions.csv")
    found = answer(capsys, "predict", str(folder), *pictures)
    assert [one["prediction"] for one in found["predictions"]] == said[:12]
    assert found["thresholds"] == json.loads((folder / "thresholds.json").read_text())
    same = answer(capsys, "evaluate", str(folder), str(chest))
    summary = json.loads((folder / "summary.json").read_text())
    for part in ("metrics", "labels", "thresholds", "nothing"):
        assert json.dumps(same[part]) == json.dumps(summary[part]), part

    strict = found["thresholds"] | {"values": [1.0, 1.0, 1.0]}
    (folder / "thresholds.json").write_text(json.dumps(strict))
    assert {one["prediction"] for one in answer(capsys, "predict", str(folder), *pictures)["predictions"]} == {"-"}
    none = answer(capsys, "evaluate", str(folder), str(chest))
    assert none["metrics"]["accuracy"]["value"] == pytest.approx(none["nothing"]["accuracy"], abs=1e-6)
    assert none["metrics"]["auroc"] == summary["metrics"]["auroc"]

    (folder / "thresholds.json").write_text(json.dumps(strict | {"labels": ["nodule", "mass", "scar"]}))
    refused = answer(capsys, "predict", str(folder), *pictures, status=65)
    assert refused["error"]["code"] == "E-VALUE"
    (folder / "thresholds.json").unlink()
    halves = answer(capsys, "predict", str(folder), *pictures)
    assert [note["text"] for note in halves["notes"]] == ["has no thresholds.json: a label is predicted above 0.5"]
    assert [one["prediction"] for one in halves["predictions"]] == joined(probabilities[:12] > 0.5)


def test_what_thresholds_maximize_is_a_choice_of_the_run(chest: Path) -> None:
    data = open_dataset(chest)
    run_config, notes = plan_run(data, TrainOptions(model="vit_nano", thresholds="youden"))
    assert run_config.recipe.thresholds == "youden"
    assert any("negatives / positives" in note.text for note in notes)
    assert plan_run(data, TrainOptions(model="vit_nano"))[0].recipe.thresholds == "f1"
