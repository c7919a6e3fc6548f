"""Pictures to classes and volumes to masks by a bundle, against numpy; images that it does not take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.data import Image, read_image, windows
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference import segmentation, segmentation_files
from gossamer.inference.bundle import open_bundle
from gossamer.inference.classification import ClassificationPredictor, bundle_predictor
from gossamer.inference.classification_files import find_inputs, predict_inputs
from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow
from gossamer.inference.tasks import open_predictor
from made_bundles import WINDOW, numpy_logits, write_classifier, write_segmenter


def picture(path: Path, shape: tuple[int, ...], seed: int = 0, kind: str = "uint8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(kind)
    PillowImage.fromarray(values).save(path)
    return path


def grey(*shape: int, kind: str = "int16", spacing: tuple[float, ...] | None = None) -> Image:
    values = np.random.default_rng(4).integers(0, 256, shape).astype(kind)
    return Image(values, ("slices", "rows", "columns")[-len(shape) :], "test", spacing_mm=spacing)


@pytest.mark.parametrize(("channels", "multi_label"), [(1, False), (3, True)])
def test_classes_of_pictures_equal_numpy(channels: int, multi_label: bool, tmp_path: Path) -> None:
    labels = {"rule": "youden", "labels": ["a", "b", "c"], "values": [0.4, 0.9, 0.6]} if multi_label else None
    folder = write_classifier(
        tmp_path / "bundle", ("a", "b", "c"), channels=channels, multi_label=multi_label, thresholds=labels
    )
    model = bundle_predictor(open_bundle(folder, threads=1))
    colour = (3,) if channels == 3 else ()
    for number, shape in enumerate([(31, 17), (24, 40), (90, 61)]):
        picture(tmp_path / "in" / f"{number}.png", (*shape, *colour), number)
    results = predict_inputs(model, find_inputs(model, [tmp_path / "in"]))
    assert [Path(one.source).name for one in results.predictions] == ["0.png", "1.png", "2.png"]
    steps = Preprocessing.from_json(open_bundle(folder).manifest.preprocessing)
    for one in results.predictions:
        inputs = steps.network_input(read_image(Path(one.source)))[None]
        assert inputs.shape == (1, channels, *WINDOW)
        logits = numpy_logits(inputs, 3, pooled=True)
        wanted = 1 / (1 + np.exp(-logits[0])) if multi_label else np.exp(logits[0]) / np.exp(logits[0]).sum()
        np.testing.assert_allclose(one.probabilities, wanted, rtol=0, atol=5e-6)
        chosen = wanted > [0.4, 0.9, 0.6] if multi_label else wanted == wanted.max()
        assert one.name == ("|".join(np.array(["a", "b", "c"])[chosen]) or "-")
    assert results.table()[0] == ["path", "prediction", "p(a)", "p(b)", "p(c)"]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("shape", [(4, 53, 70), (53, 70), (3, 9, 33)])
@pytest.mark.parametrize("batch", [1, 5, 16])
def test_masks_equal_numpy(
    shape: tuple[int, ...], multi_label: bool, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "BATCH", batch)
    bundle = open_bundle(write_segmenter(tmp_path / "bundle", stack=3, multi_label=multi_label), threads=1)
    model = segmentation.bundle_predictor(bundle)
    outputs = 2 if multi_label else 3
    seen: list[int] = []

    def network(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return numpy_logits(images, outputs, pooled=False).astype(np.float32)

    by_numpy = replace(model, network=network)
    image = grey(*shape)
    found, wanted = model.predict(image), by_numpy.predict(image)
    assert found.planes.shape == (2, *shape)
    assert (found.planes == wanted.planes).mean() > 0.9999  # where two classes are equal, rounding decides
    assert max(seen) <= batch
    assert found.overlapping is multi_label
    assert all(plane.any() for plane in found.planes)


def test_a_window_is_the_convolution_itself(tmp_path: Path) -> None:
    """Without sliding: the logits of one window, by numpy alone."""
    model = segmentation.bundle_predictor(open_bundle(write_segmenter(tmp_path / "bundle"), threads=1))
    image = grey(*WINDOW)
    standard = (image.array.astype(np.float64) - 100) / 50
    best = numpy_logits(standard[None, None], 3, pooled=False)[0].argmax(axis=0)
    np.testing.assert_array_equal(model.predict(image).planes, [best == 1, best == 2])


def test_many_classes_are_counted_beyond_a_byte() -> None:
    classes = tuple(f"class {number}" for number in range(300))

    def network(images: np.ndarray) -> np.ndarray:
        return (images[:, :1] == np.arange(301)[:, None, None]).astype(np.float32)

    image = replace(grey(11, 13), array=np.arange(143, dtype=np.int16).reshape(11, 13) + 158)
    predictor = SegmentationPredictor(
        network=network, preprocessing=Preprocessing(()), windows=SlidingWindow((11, 13)), classes=classes
    )
    found = predictor.predict(image)
    numbers = found.planes.argmax(axis=0) + 1
    np.testing.assert_array_equal(numbers, image.array)


@pytest.mark.parametrize(
    ("channels", "stored", "shape", "kind", "code", "values"),
    [
        (1, "uint8", (20, 30), "uint16", ErrorCode.VALUE, ("uint16", "uint8")),
        (1, "uint16", (20, 30), "uint8", ErrorCode.VALUE, ("uint8", "uint16")),
        (1, None, (20, 30, 3), "uint8", ErrorCode.UNSUPPORTED, ("3", "1")),
        (3, "uint8", (20, 30, 2), "uint8", ErrorCode.UNSUPPORTED, ("2", "3")),
    ],
)
def test_images_that_a_bundle_does_not_take(
    channels: int,
    stored: str | None,
    shape: tuple[int, ...],
    kind: str,
    code: ErrorCode,
    values: tuple[str, str],
    tmp_path: Path,
) -> None:
    axes = ("rows", "columns", "channels")[: len(shape)]
    image = Image(np.random.default_rng(0).integers(0, 200, shape).astype(kind), axes, "test")
    models = (
        bundle_predictor(open_bundle(write_classifier(tmp_path / "a", channels=channels, stored=stored))),
        segmentation.bundle_predictor(open_bundle(write_segmenter(tmp_path / "b", channels=channels, stored=stored))),
    )
    for model in models:
        with pytest.raises(GossamerError) as caught:
            model.predict(image)
        assert (caught.value.code, caught.value.where) == (code, "test")
        assert all(value in caught.value.problem for value in values)


@pytest.mark.parametrize(("multi_label", "bad"), [(False, np.nan), (False, np.inf), (True, np.nan)])
@pytest.mark.parametrize("write", [write_classifier, write_segmenter])
def test_probabilities_that_are_not_finite_are_an_error_of_their_image(
    write: Callable[..., Path], multi_label: bool, bad: float, tmp_path: Path
) -> None:
    pictures = [picture(tmp_path / f"{number}.png", (21, 33), number) for number in range(3)]
    bundle = open_bundle(write(tmp_path / "bundle", multi_label=multi_label), threads=1)
    calls: list[int] = []

    def spoilt(windows: np.ndarray) -> np.ndarray:
        logits = bundle.engine.run(windows)
        calls.append(len(windows))
        if len(calls) == 2:
            logits[0, 1] = bad
        return logits

    broken = replace(bundle, engine=replace(bundle.engine, run=spoilt))
    if write is write_classifier:
        results = predict_inputs(bundle_predictor(broken), pictures)
    else:
        predictor = segmentation.bundle_predictor(broken)
        inputs = segmentation_files.find_inputs(predictor, pictures)
        results = segmentation_files.predict_inputs(predictor, inputs, tmp_path / "out")
    assert calls == [1, 1, 1]
    ((failed, error),) = results.errors
    assert (failed, error.where, error.code) == (pictures[1], str(pictures[1]), ErrorCode.VALUE)
    assert "NaN" in error.problem


def test_channels_are_counted_where_no_step_does(tmp_path: Path) -> None:
    bundle = open_bundle(write_segmenter(tmp_path / "b", channels=2))
    preprocessing = segmentation.bundle_predictor(bundle).preprocessing
    bare = replace(preprocessing, steps=preprocessing.steps[1:])
    with pytest.raises(GossamerError) as caught:
        bare(grey(20, 30))
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_a_bundle_opens_as_the_predictor_of_its_task(classifier_bundle: Path, mask_bundle: Path) -> None:
    assert type(open_predictor(classifier_bundle)) is ClassificationPredictor
    assert type(open_predictor(mask_bundle)) is SegmentationPredictor


def test_the_first_error_is_raised_if_no_image_is_usable(classifier_bundle: Path, tmp_path: Path) -> None:
    model = bundle_predictor(open_bundle(classifier_bundle))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(GossamerError) as caught:
        predict_inputs(model, find_inputs(model, [tmp_path]))
    assert (caught.value.code, caught.value.where) == (ErrorCode.FORMAT, str(tmp_path / "a.png"))
    assert "2 inputs" in caught.value.problem
    picture(tmp_path / "c.png", (20, 30))
    results = predict_inputs(model, find_inputs(model, [tmp_path]))
    assert ([path.name for path, _ in results.errors], len(results.predictions)) == (["a.png", "b.png"], 1)
