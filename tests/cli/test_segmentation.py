"""Masks through the command line: train, evaluate, predict, an interrupted run, and options that do not fit."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import gossamer.api.train
from gossamer.checkpoint import read_tensors
from gossamer.cli.main import run
from gossamer.data import open_dataset
from gossamer.data.io import rle
from gossamer.data.synthetic.abdomen import CLASSES, write_abdomen
from gossamer.training.callbacks import EpochDone

OPTIONS = ["--model", "cvt_small", "--epochs", "3", "--threads", "1", "--precision", "float32", "--batch-size", "8"]
SLICES, SIZE = 6, (30, 44)


@pytest.fixture(scope="session")
def abdomen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of seven cases of six slices; do not write into it."""
    return write_abdomen(tmp_path_factory.mktemp("phantom") / "abdomen", cases=7, days=1, slices=SLICES, size=SIZE)


@pytest.fixture(scope="session")
def segmented(abdomen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small network that was trained on ``abdomen``; do not write into it."""
    folder = tmp_path_factory.mktemp("runs") / "segmented"
    assert run(["train", str(abdomen), "--out", str(folder), *OPTIONS]) == 0
    return folder


@pytest.fixture(scope="session")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of bright discs with label maps, some larger than others; do not write into it."""
    root = tmp_path_factory.mktemp("nuclei")
    for number in range(12):
        generator = np.random.default_rng(number)
        shape = (40, 28) if number % 2 else (24, 36)
        y, x = np.mgrid[: shape[0], : shape[1]]
        mask = np.hypot(y - generator.integers(6, 18), x - generator.integers(6, 22)) < 5
        picture = 60 + 120 * mask + generator.integers(0, 40, shape)
        for folder, array in (("images", picture), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            PillowImage.fromarray(array.astype(np.uint8)).save(root / folder / f"{number:02d}.png")
    return root


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the memory of a fresh process, which takes longer than a training here and is measured once above."""
    monkeypatch.setattr("gossamer.profiling.network.measure_peak_memory", lambda *_, **__: None)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """Run a verb with --json and return the one object that it prints."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def history(folder: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows(folder / "metrics.csv")]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_train_leaves_everything_in_the_run_folder(segmented: Path) -> None:
    assert {path.name for path in segmented.iterdir()} == {
        "config.yaml", "env.json", "metrics.csv", "progress.png", "model.safetensors", "config.json", "last.ckpt",
        "report.html", "summary.json", "cases.csv",
    }  # fmt: skip
    summary = json.loads((segmented / "summary.json").read_text())
    assert (summary["task"], summary["preset"], summary["classes"]) == ("segment", "cvt_small", list(CLASSES))
    assert set(summary["metrics"]) == {"dice", "jaccard", "jaccard_weighted", "hd95", "surface_dice"}
    for estimate in (*summary["metrics"].values(), summary["per_class"]["stomach"]["dice"]):
        assert set(estimate) == {"value", "low", "high"}
    assert summary["trivial"]["dice"] == 0
    assert set(summary["per_class"]) == set(CLASSES)
    assert (summary["split"], summary["distance_unit"]) == ("test", "mm")
    assert sum(summary["splits"].values()) == 7
    assert summary["slices"] == {split: SLICES * count for split, count in summary["splits"].items()}
    assert summary["training"]["epochs"] == 3
    assert summary["cost"]["macs"]["value"] == summary["cost"]["macs_closed_form"]["value"]
    config = (segmented / "config.yaml").read_text()
    for words in ("window:\n  - 32\n  - 48\n", "stack: 3", "over: slice", "multi_label: true", "loss: dice_ce"):
        assert words in config
    cases = rows(segmented / "cases.csv")
    assert len(cases) == 3 * summary["splits"]["test"]
    assert {row["class"] for row in cases} == set(CLASSES)
    assert {"dice", "hd95", "truth_ml", "predicted_ml"} <= set(cases[0])


def test_report_is_one_page_with_overlays(segmented: Path, abdomen: Path) -> None:
    page = (segmented / "report.html").read_text()
    summary = json.loads((segmented / "summary.json").read_text())
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    assert page.count("<svg") == 3
    assert page.count("data:image/png;base64,") >= 2  # the key, and a slice of every test case
    assert "<h1>cvt_small with softmax</h1>" in page
    for estimate in (*summary["metrics"].values(), *(found["dice"] for found in summary["per_class"].values())):
        assert f"{estimate['value']:.3f}" in page
    for name in CLASSES:
        assert name in page
    assert abdomen.name in page
    assert str(abdomen.parent) not in page


def test_evaluate_agrees_with_the_summary(
    segmented: Path, abdomen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(segmented), str(abdomen), "--threads", "1"]
    found = answer(capsys, *arguments, "--out", str(tmp_path / "cases.csv"))
    summary = json.loads((segmented / "summary.json").read_text())
    for key in ("metrics", "per_class", "trivial", "cases", "distance_unit"):
        assert found[key] == summary[key], key
    assert (tmp_path / "cases.csv").read_bytes() == (segmented / "cases.csv").read_bytes()
    everything = answer(capsys, *arguments, "--split", "all", "--tolerance", "40")
    assert (everything["cases"], everything["surface_dice_tolerance"]) == (7, 40)
    assert everything["metrics"]["surface_dice"]["value"] > found["metrics"]["surface_dice"]["value"]


def test_predict_writes_the_run_lengths_that_evaluate_has_measured(
    segmented: Path, abdomen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "masks"
    found = answer(capsys, "predict", str(segmented), str(abdomen), "--out", str(out), "--threads", "1")
    assert found["masks"] == [str(out / "submission.csv")]
    assert found["errors"] == []
    table = {(row["id"], row["class"]): row["predicted"] for row in rows(out / "submission.csv")}
    assert len(table) == 7 * SLICES * 3
    dataset = open_dataset(abdomen, task="segment")
    for row in rows(segmented / "cases.csv"):
        (sample,) = [sample for sample in dataset.samples if sample.id == row["id"]]
        truth = dataset.read(sample).labels.planes[CLASSES.index(row["class"])]
        texts = [table[f"{sample.id}_slice_{number + 1:04d}", row["class"]] for number in range(SLICES)]
        planes = np.stack([rle.decode_rle(text, SIZE, "rows", "test") for text in texts])
        dice = 2 * (planes & truth).sum() / (planes.sum() + truth.sum())
        assert float(row["dice"]) == pytest.approx(dice, rel=1e-4)
    sizes = {(row["path"], row["class"]): row["size"] for row in rows(out / "sizes.csv")}
    for row in rows(segmented / "cases.csv"):
        assert sizes[row["id"], row["class"]] == row["predicted_ml"]


def test_predict_goes_on_behind_a_bad_volume(
    segmented: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nibabel

    stored = np.random.default_rng(0).normal(size=(37, 20, 3)).astype(np.float32)
    for name, value in (("a", 0.0), ("b", np.nan), ("c", 1.0)):
        array = stored.copy()
        array[3, 4, 1] = value
        nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.5, 1.5, 4, 1])), tmp_path / f"{name}.nii.gz")
    out = tmp_path / "out"
    found = answer(capsys, "predict", str(segmented), str(tmp_path), "--out", str(out), "--threads", "1", status=65)
    assert {path.name for path in out.iterdir()} == {
        "sizes.csv", "errors.jsonl", *(f"{case}_{name}.nii.gz" for case in "ac" for name in CLASSES),
    }  # fmt: skip
    (error,) = found["errors"]
    assert json.loads((out / "errors.jsonl").read_text()) == error
    assert (error["code"], Path(error["path"]).name) == ("E-VALUE", "b.nii.gz")
    assert nibabel.load(out / "a_stomach.nii.gz").shape == (37, 20, 3)
    bad = str(tmp_path / "b.nii.gz")
    assert run(["predict", str(segmented), bad, "--out", str(tmp_path / "s"), "--strict", "--threads", "1"]) == 65
    assert "E-VALUE" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_pictures_with_label_maps(nuclei: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Classes that exclude each other, windows smaller than the pictures, another loss."""
    options = ["--model", "sumnet_small", "--epochs", "1", "--loss", "cross_entropy", "--image-size", "32x16"]
    folder, out = tmp_path / "run", tmp_path / "out"
    made = answer(capsys, "train", str(nuclei), "--out", str(folder), *options, "--threads", "1")
    assert made["task"] == "segment"
    assert made["classes"] == ["foreground"]
    assert made["distance_unit"] == "px"
    assert "stack: 1" in (folder / "config.yaml").read_text()
    answer(capsys, "predict", str(folder), str(nuclei / "images"), "--out", str(out), "--threads", "1")
    for path in sorted((nuclei / "images").iterdir()):
        mask, image = (np.asarray(PillowImage.open(file)) for file in (out / path.name, path))
        assert mask.shape == image.shape
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.usefixtures("quick")
def test_an_interrupted_run_resumes_bit_for_bit(
    segmented: Path,
    abdomen: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "stopped"

    def interrupting(*_: Any) -> Callable[[Any], None]:
        def observe(event: Any) -> None:
            if isinstance(event, EpochDone):
                os.kill(os.getpid(), signal.SIGINT)

        return observe

    with monkeypatch.context() as patched:
        patched.setattr(gossamer.api.train, "_show_training", interrupting)
        with pytest.raises(SystemExit) as caught:
            run(["train", str(abdomen), "--out", str(folder), *OPTIONS])
    assert caught.value.code == 128 + signal.SIGINT
    assert f"--resume {folder}" in capsys.readouterr().err.splitlines()[-1]
    assert len(history(folder)) == 1
    assert not (folder / "summary.json").exists()
    assert run(["train", "--resume", str(folder)]) == 0
    shown = capsys.readouterr().err
    assert "epoch 1/3" not in shown
    assert "epoch 2/3" in shown
    assert weights(folder) == weights(segmented)
    assert history(folder) == history(segmented)
    assert (folder / "cases.csv").read_bytes() == (segmented / "cases.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_killed_run_resumes_bit_for_bit(segmented: Path, abdomen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "gossamer", "train", str(abdomen), "--out", str(folder), *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (folder / "metrics.csv").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for name in ("model.safetensors", "last.ckpt"):
        if (folder / name).exists():
            read_tensors(folder / name)
    assert not (folder / "summary.json").exists()
    assert run(["train", "--resume", str(folder)]) == 0
    assert weights(folder) == weights(segmented)
    assert history(folder) == history(segmented)


@pytest.mark.parametrize(
    ("data", "options", "status", "code", "text"),
    [
        ("abdomen", ["--task", "classify"], 65, "E-FORMAT", "rle_csv"),
        ("abdomen", ["--model", "vit_tiny"], 78, "E-CONFIG", "--model: "),
        ("abdomen", ["--model", "transunet_smal"], 78, "E-CONFIG", "--model: "),
        ("abdomen", ["--model", "monai_unet", "--attention", "kv"], 78, "E-CONFIG", "--attention: "),
        ("abdomen", ["--stack", "2"], 78, "E-CONFIG", "--stack: "),
        ("abdomen", ["--stack", "-3"], 78, "E-CONFIG", "--stack: "),
        ("nuclei", ["--stack", "3"], 78, "E-CONFIG", "--stack: "),
        ("abdomen", ["--class-weights", "balanced"], 78, "E-CONFIG", "--class-weights: "),
        ("abdomen", ["--thresholds", "youden"], 78, "E-CONFIG", "--thresholds: "),
        ("abdomen", ["--loss", "dise"], 2, "usage", "--loss"),
        ("abdomen", ["--image-size", "30x44"], 78, "E-CONFIG", "--image-size: "),
        ("abdomen", ["--epochs", "0"], 78, "E-CONFIG", "--epochs: "),
        ("phantom", ["--task", "segment"], 65, "E-FORMAT", "/"),
        ("phantom", ["--loss", "dice"], 78, "E-CONFIG", "--loss: "),
        ("phantom", ["--model", "cvt_small"], 78, "E-CONFIG", "--model: "),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    data: str,
    options: list[str],
    status: int,
    code: str,
    text: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = request.getfixturevalue(data)
    capsys.readouterr()
    found = run(["train", str(folder), "--out", str(tmp_path / "run"), *options])
    captured = capsys.readouterr()
    assert found == status, captured.err
    assert captured.err.startswith(f"gossamer: {code}: ")
    assert text in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "code", "text"),
    [
        (["predict", "RUN", "DATA"], 78, "E-CONFIG", "masks need a folder"),
        (["predict", "RUN", "DATA", "--out", "FULL"], 73, "E-OUTPUT", "not an empty folder"),
        (["predict", "RUN", "DATA", "--out", "FULL/file"], 73, "E-OUTPUT", "not an empty folder"),
        (["predict", "RUN", "FULL/absent.nii", "--out", "NEW"], 66, "E-MISSING", "no such file"),
        (["predict", "RUN", "FULL", "--out", "NEW"], 66, "E-MISSING", "no images"),
        (["evaluate", "RUN", "DATA", "--split", "tset"], 78, "E-CONFIG", "no split 'tset'"),
        (["evaluate", "RUN", "DATA", "--tolerance", "0"], 78, "E-CONFIG", "0.0 is not positive"),
        (["evaluate", "RUN", "CHEST"], 65, "E-FORMAT", "has no masks"),
        (["evaluate", "RUN", "NUCLEI"], 65, "E-LABEL", "has the classes foreground"),
        (["train", "--resume", "RUN", "--loss", "dice"], 78, "E-CONFIG", "--resume: "),
    ],
)
def test_what_predict_and_evaluate_refuse(
    arguments: list[str],
    status: int,
    code: str,
    text: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    names = {"RUN": "segmented", "DATA": "abdomen", "CHEST": "phantom", "NUCLEI": "nuclei"}
    for number, argument in enumerate(arguments):
        arguments[number] = argument.replace("FULL", str(tmp_path / "full")).replace("NEW", str(tmp_path / "new"))
        if argument in names:
            arguments[number] = str(request.getfixturevalue(names[argument]))
    capsys.readouterr()
    found = run([*arguments, "--threads", "1"])
    captured = capsys.readouterr()
    assert found == status, captured.err
    assert captured.err.startswith(f"gossamer: {code}: ")
    assert text in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
