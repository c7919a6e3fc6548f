"""A pipeline beside one that differs at one stage: the difference is found, and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.data import ClassificationDataset, SegmentationDataset, open_dataset
from gossamer.data.synthetic.abdomen import CLASSES, write_abdomen
from gossamer.data.transforms import Channels, Preprocessing, Resize, ScaleIntensity, StandardizeEach
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.parity import IMAGES, VOLUMES, Pipeline, measure_parity, parity_samples
from gossamer.inference.decisions import Thresholds, compute_probabilities
from gossamer.inference.segmentation import SlidingWindow

Data = tuple[ClassificationDataset | SegmentationDataset, Pipeline]


def softmax(logits: np.ndarray) -> np.ndarray:
    return compute_probabilities(logits, multi_label=False)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return compute_probabilities(logits, multi_label=True)


@pytest.fixture(scope="module")
def pictures(phantom: Path) -> Data:
    """Pictures, and a classifier that knows their mean."""
    dataset = open_dataset(phantom, task="classify")
    pipeline = Pipeline(
        preprocessing=Preprocessing((Channels(1), ScaleIntensity(0, 4095, "uint16"), Resize(12, 10))),
        logits=lambda images: np.stack([images.mean(axis=(1, 2, 3)), np.full(len(images), 0.5, np.float32)], axis=1),
        probabilities=softmax,
        classes=dataset.classes,
        multi_label=False,
    )
    return dataset, pipeline


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Volumes, and a segmenter whose classes are bright, dark and unlike the slice below."""
    path = write_abdomen(tmp_path_factory.mktemp("abdomen"), cases=5, days=1, slices=3, size=(26, 35))

    def logits(windows: np.ndarray) -> np.ndarray:
        below, middle, _ = np.moveaxis(windows, 1, 0)
        return np.stack([middle, -middle, middle - below], axis=1)

    pipeline = Pipeline(
        preprocessing=Preprocessing((Channels(1), StandardizeEach("slice"))),
        logits=logits,
        probabilities=sigmoid,
        classes=CLASSES,
        multi_label=True,
        inference=SlidingWindow((16, 24), 3),
    )
    return open_dataset(path, task="segment"), pipeline


@pytest.fixture(params=["pictures", "volumes"])
def data(request: pytest.FixtureRequest) -> Data:
    return request.getfixturevalue(request.param)


def shifted(pipeline: Pipeline, by: float) -> Pipeline:
    def logits(images: np.ndarray) -> np.ndarray:
        found = pipeline.logits(images).copy()
        found[:, 0] += by
        return found

    return replace(pipeline, logits=logits)


def test_a_pipeline_agrees_with_itself(data: Data) -> None:
    dataset, pipeline = data
    samples = parity_samples(dataset)
    ticks: list[tuple[int, int]] = []
    found = measure_parity(pipeline, pipeline, dataset, samples, on_progress=lambda *done: ticks.append(done))
    assert (found.images, found.logits, found.probabilities, found.decisions) == (len(samples), 0.0, 0.0, 1.0)
    assert ticks == [(n, len(samples)) for n in range(1, len(samples) + 1)]


def test_samples_are_of_the_validation_split_and_few(data: Data) -> None:
    dataset, _ = data
    samples = parity_samples(dataset)
    split = dataset.split("val")
    most = VOLUMES if isinstance(dataset, SegmentationDataset) else IMAGES
    assert len(samples) == len(set(samples)) == min(most, len(split))
    assert set(samples) <= set(split)
    many = [replace(split[0], id=str(number)) for number in range(100)]
    chosen = parity_samples(replace(dataset, samples=tuple(many)))
    assert (len(chosen), chosen[0].id, chosen[-1].id) == (most, "0", "99")


def test_rounding_is_measured_and_allowed(data: Data) -> None:
    dataset, pipeline = data
    found = measure_parity(pipeline, shifted(pipeline, 1e-5), dataset, parity_samples(dataset))
    assert found.logits == pytest.approx(1e-5, rel=0.2)
    assert 0 < found.probabilities < 1e-5
    assert found.decisions > 0.99


def windows_elsewhere(pipeline: Pipeline) -> Pipeline:
    assert pipeline.inference is not None
    return replace(pipeline, inference=replace(pipeline.inference, overlap=0.25))


def another_step(pipeline: Pipeline) -> Pipeline:
    return replace(pipeline, preprocessing=Preprocessing((*pipeline.preprocessing.steps, StandardizeEach())))


def deciding_otherwise(pipeline: Pipeline) -> Pipeline:
    if pipeline.inference is not None:
        return replace(pipeline, multi_label=False, classes=pipeline.classes[:2])
    thresholds = Thresholds(rule="f1", labels=pipeline.classes, values=(0.9, 0.9))
    return replace(pipeline, multi_label=True, thresholds=thresholds)


def not_finite(pipeline: Pipeline) -> Pipeline:
    return replace(pipeline, logits=lambda images: pipeline.logits(images) * np.float32("nan"))


@pytest.mark.parametrize(
    ("kind", "change", "stage"),
    [
        ("pictures", another_step, "preprocess"),
        ("pictures", lambda pipeline: shifted(pipeline, 0.01), "network"),
        ("pictures", not_finite, "network"),
        ("pictures", deciding_otherwise, "decision"),
        ("volumes", another_step, "preprocess"),
        ("volumes", windows_elsewhere, "preprocess"),
        ("volumes", lambda pipeline: shifted(pipeline, 0.01), "network"),
        ("volumes", not_finite, "network"),
        ("volumes", deciding_otherwise, "decision"),
    ],
)
def test_the_image_and_the_stage_are_named(
    kind: str, change: Callable[[Pipeline], Pipeline], stage: str, request: pytest.FixtureRequest
) -> None:
    dataset, pipeline = request.getfixturevalue(kind)
    samples = parity_samples(dataset)
    with pytest.raises(GossamerError, match=rf"stage: {stage}") as caught:
        measure_parity(pipeline, change(pipeline), dataset, samples)
    assert caught.value.code is ErrorCode.INTEGRITY
    assert caught.value.where in {sample.id for sample in samples}
    found = measure_parity(pipeline, change(pipeline), dataset, samples, strict=False)
    assert (found.images, found.tolerance) == (len(samples), None)
    assert found.decisions < 1 or stage != "decision"


def test_several_labels_may_differ_on_their_threshold_alone(pictures: Data) -> None:
    dataset, pipeline = pictures
    samples = parity_samples(dataset)
    cut = float(softmax(pipeline.logits(pipeline.preprocessing.network_input(dataset.read(samples[0]))[None]))[0, 0])  # type: ignore[arg-type]

    def deciding(threshold: float) -> Pipeline:
        thresholds = Thresholds(rule="f1", labels=pipeline.classes, values=(threshold, 1.0))
        return replace(pipeline, multi_label=True, thresholds=thresholds)

    found = measure_parity(deciding(cut + 1e-6), deciding(cut - 1e-6), dataset, samples[:1])
    assert found.decisions == 0
    with pytest.raises(GossamerError, match="1 of 1 decisions"):
        measure_parity(deciding(cut + 0.01), deciding(cut - 0.01), dataset, samples[:1])


def test_shapes_that_differ_are_no_agreement(pictures: Data) -> None:
    dataset, pipeline = pictures
    fewer: Any = replace(pipeline, logits=lambda images: pipeline.logits(images)[:, :1])
    with pytest.raises(GossamerError, match="stage: network"):
        measure_parity(pipeline, fewer, dataset, parity_samples(dataset))


def test_a_network_that_chooses_places_may_move_one_pixel_in_a_thousand(volumes: Data) -> None:
    dataset, pipeline = volumes
    samples = parity_samples(dataset)

    def moved(pixels: int) -> Pipeline:
        def logits(windows: np.ndarray) -> np.ndarray:
            found = pipeline.logits(windows).copy()
            found[:, 0, 3, 5 : 5 + pixels] += 0.02
            return found

        return replace(pipeline, logits=logits)

    with pytest.raises(GossamerError, match="stage: network"):
        measure_parity(pipeline, moved(1), dataset, samples)
    choosing = replace(pipeline, continuous=False)
    assert measure_parity(choosing, moved(1), dataset, samples).probabilities > 1e-3
    with pytest.raises(GossamerError, match="stage: network"):
        measure_parity(choosing, moved(4), dataset, samples)
