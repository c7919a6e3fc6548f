"""``gossamer predict`` and ``gossamer evaluate`` with a bundle in the place of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.cli.main import run
from gossamer.data import read_image
from gossamer.data.transforms import Preprocessing
from gossamer.files import read_json
from made_bundles import numpy_logits, write_classifier, write_segmenter

THREADS = ["--threads", "1"]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """Run a verb with --json and return the one object that it prints."""
    capsys.readouterr()
    assert run([*arguments, *THREADS, "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the classes of the phantom; do not write into it."""
    labels = {"rule": "f1", "labels": ["nodule"], "values": [0.3]}
    folder = tmp_path_factory.mktemp("bundles") / "chest"
    return write_classifier(folder, ("clear", "nodule"), thresholds=labels, stored="uint16", high=4095)


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that segments grey pictures and volumes; do not write into it."""
    return write_segmenter(tmp_path_factory.mktemp("bundles") / "organs", stack=3)


def volume(path: Path, seed: int = 0) -> Path:
    array = np.random.default_rng(seed).integers(0, 256, (31, 26, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.5, 1.25, 4, 1])), path)
    return path


def test_predictions_follow_from_the_weights(
    chest: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "predict", str(chest), str(phantom / "images"), "--out", str(tmp_path / "p.csv"))
    assert (found["bundle"], found["engine"], found["threads"]) == (str(chest), "onnxruntime", 1)
    assert found["thresholds"] is None  # The larger of two probabilities decides, as the last lines show.
    table = rows(tmp_path / "p.csv")
    assert list(table[0]) == ["path", "prediction", "p(clear)", "p(nodule)"]
    assert len(table) == len(found["predictions"]) == 60
    steps = Preprocessing.from_json(read_json(chest / "manifest.json")["preprocessing"])
    inputs = np.stack([steps.network_input(read_image(row["path"])) for row in table])
    logits = numpy_logits(inputs, 2, pooled=True)
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose([float(row["p(nodule)"]) for row in table], expected, rtol=0, atol=2e-6)
    assert [row["prediction"] for row in table] == ["nodule" if p > 0.5 else "clear" for p in expected]
    capsys.readouterr()
    assert run(["predict", str(chest), table[7]["path"], *THREADS]) == 0
    assert capsys.readouterr().out.splitlines()[1] == ",".join(table[7].values())


def test_evaluate_measures_the_predictions_of_predict(
    chest: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "evaluate", str(chest), str(phantom), "--split", "all", "--out", str(tmp_path / "e.csv"))
    assert (found["bundle"], found["samples"], found["thresholds"]["values"]) == (str(chest), 60, [0.3])
    answer(capsys, "predict", str(chest), str(phantom / "images"), "--out", str(tmp_path / "p.csv"))
    predicted = {Path(row["path"]).name: row for row in rows(tmp_path / "p.csv")}
    measured = rows(tmp_path / "e.csv")
    assert len(measured) == 60
    for row in measured:
        same = predicted[Path(row["id"]).name]
        assert row["prediction"] == same["prediction"]
        assert float(row["p(nodule)"]) == pytest.approx(float(same["p(nodule)"]), abs=2e-6)
    right = np.mean([row["truth"] == predicted[Path(row["id"]).name]["prediction"] for row in measured])
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(right, abs=1e-6)


def test_masks_of_a_bundle_are_perfect_for_evaluate(
    organs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Masks written by predict are the ground truth of evaluate, which then finds no difference."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 256, (45, 70 + number), dtype=np.uint8)
        PillowImage.fromarray(values).save(tmp_path / "data" / "images" / f"{number}.png")
    out = tmp_path / "data" / "masks"
    found = answer(capsys, "predict", str(organs), str(tmp_path / "data" / "images"), "--out", str(out))
    assert [Path(file).name for file in found["masks"]] == [f"{number}.png" for number in range(4)]
    assert {row["unit"] for row in rows(out / "sizes.csv")} == {"px"}
    (out / "sizes.csv").unlink()
    renamed = write_segmenter(tmp_path / "renamed", ("class 1", "class 2"), stack=3)
    measured = answer(
        capsys, "evaluate", str(renamed), str(tmp_path / "data"), "--split", "all", "--out", str(tmp_path / "c.csv")
    )
    assert measured["metrics"]["dice"]["value"] == 1
    assert measured["metrics"]["hd95"]["value"] == 0
    assert len(rows(tmp_path / "c.csv")) == 8


def test_a_damaged_volume_does_not_stop_the_others(
    organs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate("ac"):
        volume(tmp_path / "in" / f"{name}.nii.gz", number)
    (tmp_path / "in" / "b.nii.gz").write_bytes((tmp_path / "in" / "a.nii.gz").read_bytes()[:-20])
    out = tmp_path / "new" / "out"
    found = answer(capsys, "predict", str(organs), str(tmp_path / "in"), "--out", str(out), status=65)
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "c.nii.gz", "errors.jsonl", "sizes.csv"]
    (error,) = found["errors"]
    assert json.loads((out / "errors.jsonl").read_text()) == error
    assert Path(error["path"]).name == "b.nii.gz"
    mask = nibabel.load(out / "a.nii.gz")
    assert mask.shape == (31, 26, 5)
    np.testing.assert_array_equal(mask.affine, np.diag([-1.5, 1.25, 4, 1]))
    sizes = {(Path(row["path"]).name, row["class"]): float(row["size"]) for row in rows(out / "sizes.csv")}
    counts = np.bincount(np.asarray(mask.dataobj).ravel(), minlength=3)
    assert sizes["a.nii.gz", "large bowel"] == pytest.approx(counts[2] * 1.5 * 1.25 * 4 / 1000, rel=1e-5)


def test_channels_in_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_segmenter(tmp_path / "bundle", channels=2, layout="decathlon")
    (tmp_path / "in").mkdir()
    for number in range(2):
        volume(tmp_path / "in" / f"p_{number:04d}.nii.gz", number)
    found = answer(capsys, "predict", str(bundle), str(tmp_path / "in"), "--out", str(tmp_path / "out"))
    assert [Path(file).name for file in found["masks"]] == ["p.nii.gz"]


def save(path: Path, shape: tuple[int, ...], kind: str) -> Path:
    PillowImage.fromarray(np.random.default_rng(0).integers(0, 200, shape).astype(kind)).save(path)
    return path


@pytest.mark.parametrize(("shape", "kind", "text"), [((20, 31, 3), "uint8", "channel"), ((20, 31), "uint16", "uint16")])
@pytest.mark.parametrize("out", [[], ["--out", "NEW"]])
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_an_unfit_image_is_refused_and_nothing_is_written(
    task: str,
    out: list[str],
    shape: tuple[int, ...],
    kind: str,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = write_classifier if task == "classify" else write_segmenter
    bundle, image = write(tmp_path / "bundle", stored="uint8"), save(tmp_path / "x.png", shape, kind)
    new = tmp_path / "new" / "out"
    if task == "classify":
        new.parent.mkdir()
    elif not out:
        out = ["--out", "NEW"]
    arguments = [argument.replace("NEW", str(new)) for argument in out]
    capsys.readouterr()
    assert run(["predict", str(bundle), str(image), *arguments, *THREADS]) == 65
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("gossamer: E-")
    assert text in line
    assert captured.out == ""
    assert (list(new.parent.iterdir()) if new.parent.exists() else []) == []
    assert new.parent.exists() == (task == "classify")


def test_an_unfit_image_does_not_stop_the_others(
    chest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.png", (20, 31, 3), "uint8")
    save(tmp_path / "in" / "b.png", (20, 31), "uint16")
    out = tmp_path / "p.csv"
    found = answer(capsys, "predict", str(chest), str(tmp_path / "in"), "--out", str(out), status=65)
    assert [Path(row["path"]).name for row in rows(out)] == ["b.png"]
    assert json.loads((tmp_path / "errors.jsonl").read_text()) == found["errors"][0]
    assert found["errors"][0]["code"] == "E-VALUE"
    arguments = ["--strict", "--out", str(tmp_path / "q.csv"), *THREADS]
    assert run(["predict", str(chest), str(tmp_path / "in"), *arguments]) == 65
    assert not (tmp_path / "q.csv").exists()


def test_several_labels_without_thresholds_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_classifier(tmp_path / "bundle", multi_label=True)
    found = answer(capsys, "predict", str(bundle), str(save(tmp_path / "x.png", (20, 31), "uint8")))
    (note,) = found["notes"]
    assert note["code"] == "E-LABEL"
    assert "0.5" in note["text"]


@pytest.mark.parametrize(
    ("arguments", "status", "where"),
    [
        (["predict", "ABSENT", "IMAGES"], 66, "E-MISSING: ABSENT: "),
        (["predict", "RUN", "IMAGES", "--engine", "onnxruntime"], 78, "E-CONFIG: --engine: "),
        (["predict", "CHEST", "IMAGES", "--engine", "onnx"], 2, "usage: "),
        (["predict", "CHEST", "IMAGES", "--threads", "0"], 78, "E-CONFIG: --threads: "),
        (["predict", "CHEST", "ABSENT"], 66, "E-MISSING: ABSENT: "),
        (["predict", "ORGANS", "IMAGES"], 78, "E-CONFIG: --out: "),
        (["evaluate", "CHEST", "DATA", "--tolerance", "2"], 78, "E-CONFIG: --tolerance: "),
        (["evaluate", "ORGANS", "DATA"], 65, "E-"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str],
    status: int,
    where: str,
    chest: Path,
    organs: Path,
    phantom: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {
        "CHEST": chest, "ORGANS": organs, "DATA": phantom, "IMAGES": phantom / "images", "RUN": tmp_path,
        "ABSENT": tmp_path / "absent",
    }  # fmt: skip
    capsys.readouterr()
    assert run([str(names.get(argument, argument)) for argument in arguments]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gossamer: {where.replace('ABSENT', str(tmp_path / 'absent'))}")
