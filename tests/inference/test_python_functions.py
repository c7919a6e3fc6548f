"""gossamer.load, predict and evaluate from Python: values, arrays and paths, and one exception for bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gossamer
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.classification_files import ClassificationResults
from gossamer.inference.segmentation_files import SegmentationResults
from made_bundles import write_classifier, write_inputs, write_segmenter


class Recorder:
    """A ``Progress`` that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def show_message(self, text: str) -> None:
        self.messages.append(text)

    def track_steps(self, label: str) -> Recorder:
        return self

    def __enter__(self) -> Callable[[int, int], None]:
        return lambda done, total: self.steps.append((done, total))

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    return write_inputs(tmp_path)


def test_one_image_is_predicted_from_path_image_and_array(
    classifier_bundle: Path, mask_bundle: Path, inputs: tuple[Path, Path]
) -> None:
    picture = inputs[0] / "1.png"
    image = gossamer.read_image(picture)
    classifier = gossamer.load(classifier_bundle, threads=1)
    found = [classifier.predict(given) for given in (picture, str(picture), image, image.array)]
    assert {one.name for one in found} <= set(classifier.classes)
    for one in found[1:]:
        np.testing.assert_array_equal(one.probabilities, found[0].probabilities)
    segmenter = gossamer.load(mask_bundle, threads=1)
    volume = gossamer.read_image(inputs[1] / "1.nii.gz")
    masks = [segmenter.predict(given) for given in (inputs[1] / "1.nii.gz", volume, volume.array)]
    assert masks[0].planes.shape == (2, *volume.spatial_shape)
    for one in masks[1:]:
        np.testing.assert_array_equal(one.planes, masks[0].planes)


def test_a_predictor_states_what_it_is(classifier_bundle: Path) -> None:
    predictor = gossamer.load(classifier_bundle, threads=1)
    assert (predictor.task, predictor.seed, predictor.facts["threads"]) == ("classify", 3, 1)
    for part in (str(classifier_bundle), "onnxruntime", "clear, nodule, mass"):
        assert part in repr(predictor)


def test_many_classes_are_predicted_and_bad_files_listed(
    classifier_bundle: Path, inputs: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (inputs[0] / "2.png").write_bytes(b"no picture")
    progress, out = Recorder(), tmp_path / "out.csv"
    results = gossamer.predict(classifier_bundle, inputs[0], out=out, threads=1, progress=progress)
    assert isinstance(results, ClassificationResults)
    assert len(results.predictions) == 4
    assert [path.name for path, _ in results.errors] == ["2.png"]
    assert progress.steps == [(done, 5) for done in range(1, 6)]
    assert out.read_text() == results.to_csv()
    assert json.loads((tmp_path / "errors.jsonl").read_text())["code"] == "E-FORMAT"
    again = gossamer.predict(gossamer.load(classifier_bundle, threads=1), [inputs[0] / "0.png", str(inputs[0])])
    assert len(again.to_dict()["predictions"]) == 5
    assert "p(nodule)" in repr(again)
    assert "<table>" in again._repr_html_()
    assert capfd.readouterr() == ("", "")


def test_masks_are_written_and_counted(mask_bundle: Path, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    results = gossamer.predict(mask_bundle, inputs[1], out=tmp_path / "masks", threads=1)
    assert isinstance(results, SegmentationResults)
    assert [file.name for file in results.files] == ["0.nii.gz", "1.nii.gz"]
    assert (tmp_path / "masks" / "sizes.csv").read_text() == results.to_csv()
    assert {size["unit"] for size in results.to_dict()["sizes"]} == {"ml"}


@pytest.mark.parametrize(
    ("call", "code", "where"),
    [
        (lambda bundle, images, out: gossamer.load(out), ErrorCode.MISSING, None),
        (lambda bundle, images, out: gossamer.load(bundle, threads=0), ErrorCode.CONFIG, "threads"),
        (lambda bundle, images, out: gossamer.load(images, engine="openvino"), ErrorCode.CONFIG, "engine"),
        (lambda bundle, images, out: gossamer.predict(bundle, [1]), ErrorCode.CONFIG, "images"),
        (lambda bundle, images, out: gossamer.predict(bundle, []), ErrorCode.MISSING, "images"),
        (lambda bundle, images, out: gossamer.predict(bundle, images, rle_order="rows"), ErrorCode.CONFIG, "rle_order"),
        (lambda bundle, images, out: gossamer.predict(bundle, images, out=images), ErrorCode.OUTPUT, None),
        (lambda bundle, images, out: gossamer.predict(bundle, images, out=out / "a" / "b"), ErrorCode.OUTPUT, None),
        (lambda bundle, images, out: gossamer.evaluate(bundle, images, split="tset"), ErrorCode.CONFIG, "split"),
        (lambda bundle, images, out: gossamer.evaluate(bundle, images, tolerance=1.0), ErrorCode.CONFIG, "tolerance"),
        (lambda bundle, images, out: gossamer.evaluate(bundle, images, out=images), ErrorCode.OUTPUT, None),
        (lambda bundle, images, out: gossamer.evaluate(bundle, images, out=out), ErrorCode.FORMAT, None),
        (
            lambda bundle, images, out: gossamer.predict(gossamer.load(bundle), images, threads=2),
            ErrorCode.CONFIG,
            "threads",
        ),
    ],
)
def test_bad_input_raises_one_exception_and_writes_nothing(
    call: Callable[[Path, Path, Path], object],
    code: ErrorCode,
    where: str | None,
    classifier_bundle: Path,
    inputs: tuple[Path, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(GossamerError) as caught:
        call(classifier_bundle, inputs[0], tmp_path / "out")
    assert caught.value.code is code
    assert where is None or caught.value.where == where
    assert caught.value.problem
    assert caught.value.remedy
    assert sorted(tmp_path.rglob("*")) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 5)])
def test_arrays_that_are_not_images_are_refused(shape: tuple[int, ...], classifier_bundle: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        gossamer.load(classifier_bundle).predict(np.zeros(shape, np.uint8))
    assert (caught.value.code, caught.value.where) == (ErrorCode.GEOMETRY, "image")


def test_several_labels_without_thresholds_are_noted(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    bundle = write_classifier(tmp_path / "several", ("a", "b"), multi_label=True)
    progress = Recorder()
    results = gossamer.predict(bundle, inputs[0], threads=1, progress=progress)
    assert len(progress.messages) == len(results.notes) == 1
    assert results.to_dict()["notes"][0]["code"] == "E-LABEL"


def test_masks_need_a_folder(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    bundle = write_segmenter(tmp_path / "organs")
    with pytest.raises(GossamerError) as caught:
        gossamer.predict(bundle, inputs[0])
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "out")
