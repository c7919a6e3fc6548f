"""A predictor compared with one that differs at one stage: the difference is found and the stage is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.data import ClassificationDataset, Dataset, SegmentationDataset, open_dataset
from gossamer.data.synthetic.abdomen import CLASSES, write_abdomen
from gossamer.data.transforms import Channels, Preprocessing, Resize, ScaleIntensity, StandardizeEach
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting import classification, segmentation
from gossamer.exporting.parity import choose_parity_samples, measure_parity
from gossamer.inference.classification import ClassificationPredictor
from gossamer.inference.decisions import Thresholds
from gossamer.inference.predictor import Predictor
from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow

Data = tuple[Dataset, Predictor]


@pytest.fixture(scope="module")
def pictures(phantom: Path) -> tuple[ClassificationDataset, ClassificationPredictor]:
    """Pictures, and a classifier of their mean value."""
    dataset = open_dataset(phantom, task="classify")
    assert isinstance(dataset, ClassificationDataset)
    predictor = ClassificationPredictor(
        network=lambda images: np.stack([images.mean(axis=(1, 2, 3)), np.full(len(images), 0.5, np.float32)], axis=1),
        preprocessing=Preprocessing((Channels(1), ScaleIntensity(0, 4095, "uint16"), Resize(12, 10))),
        classes=dataset.classes,
    )
    return dataset, predictor


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentationDataset, SegmentationPredictor]:
    """Volumes, and a segmenter of what is bright, what is dark and what differs from the slice below."""
    path = write_abdomen(tmp_path_factory.mktemp("abdomen"), cases=5, days=1, slices=3, size=(26, 35))

    def compute_logits(windows: np.ndarray) -> np.ndarray:
        below, middle, _ = np.moveaxis(windows, 1, 0)
        return np.stack([middle, -middle, middle - below], axis=1)

    predictor = SegmentationPredictor(
        network=compute_logits,
        preprocessing=Preprocessing((Channels(1), StandardizeEach("slice"))),
        classes=CLASSES,
        multi_label=True,
        windows=SlidingWindow((16, 24), 3),
    )
    dataset = open_dataset(path, task="segment")
    assert isinstance(dataset, SegmentationDataset)
    return dataset, predictor


@pytest.fixture(params=["pictures", "volumes"])
def data(request: pytest.FixtureRequest) -> Data:
    return request.getfixturevalue(request.param)


def shift_logits(predictor: Predictor, by: float) -> Predictor:
    def compute_logits(inputs: np.ndarray) -> np.ndarray:
        logits = predictor.network(inputs).copy()
        logits[:, 0] += by
        return logits

    return replace(predictor, network=compute_logits)


def test_a_predictor_agrees_with_itself(data: Data) -> None:
    dataset, predictor = data
    samples = choose_parity_samples(dataset)
    updates: list[tuple[int, int]] = []
    found = measure_parity(predictor, predictor, dataset, samples, on_progress=lambda *done: updates.append(done))
    assert (found.images, found.logits, found.probabilities, found.decisions) == (len(samples), 0.0, 0.0, 1.0)
    assert updates == [(n, len(samples)) for n in range(1, len(samples) + 1)]


def test_samples_are_few_and_of_the_validation_split(data: Data) -> None:
    dataset, _ = data
    samples = choose_parity_samples(dataset)
    split = dataset.split("val")
    most = {"classify": classification.PARITY_IMAGES, "segment": segmentation.PARITY_VOLUMES}[dataset.task]
    assert len(samples) == len(set(samples)) == min(most, len(split))
    assert set(samples) <= set(split)
    many = [replace(split[0], id=str(number)) for number in range(100)]
    chosen = choose_parity_samples(replace(dataset, samples=tuple(many)))
    assert (len(chosen), chosen[0].id, chosen[-1].id) == (most, "0", "99")


def test_rounding_is_measured_and_allowed(data: Data) -> None:
    dataset, predictor = data
    found = measure_parity(predictor, shift_logits(predictor, 1e-5), dataset, choose_parity_samples(dataset))
    assert found.logits == pytest.approx(1e-5, rel=0.2)
    assert 0 < found.probabilities < 1e-5
    assert found.decisions > 0.99


class InvertedSegmenter(SegmentationPredictor):
    """A segmenter that decides the opposite of its probabilities."""

    def choose_classes(self, probabilities: np.ndarray) -> np.ndarray:
        return ~super().choose_classes(probabilities)


def move_windows(predictor: Any) -> Predictor:
    return replace(predictor, windows=replace(predictor.windows, overlap=0.25))


def add_step(predictor: Predictor) -> Predictor:
    return replace(predictor, preprocessing=Preprocessing((*predictor.preprocessing.steps, StandardizeEach())))


def invert_decisions(predictor: Any) -> Predictor:
    values = {name: getattr(predictor, name) for name in ("network", "preprocessing", "classes", "windows")}
    return InvertedSegmenter(multi_label=True, **values)


def break_logits(predictor: Predictor) -> Predictor:
    return replace(predictor, network=lambda inputs: predictor.network(inputs) * np.float32("nan"))


@pytest.mark.parametrize(
    ("kind", "change", "stage"),
    [
        ("pictures", add_step, "preprocess"),
        ("pictures", lambda predictor: shift_logits(predictor, 0.01), "network"),
        ("pictures", break_logits, "network"),
        ("volumes", add_step, "preprocess"),
        ("volumes", move_windows, "preprocess"),
        ("volumes", lambda predictor: shift_logits(predictor, 0.01), "network"),
        ("volumes", break_logits, "network"),
        ("volumes", invert_decisions, "decision"),
    ],
)
def test_the_image_and_the_stage_are_named(
    kind: str, change: Callable[[Predictor], Predictor], stage: str, request: pytest.FixtureRequest
) -> None:
    dataset, predictor = request.getfixturevalue(kind)
    require_difference(dataset, predictor, change(predictor), stage)


def test_other_thresholds_are_found_as_other_decisions(
    pictures: tuple[ClassificationDataset, ClassificationPredictor],
) -> None:
    dataset, predictor = pictures

    def with_threshold(value: float) -> Predictor:
        thresholds = Thresholds(rule="f1", labels=predictor.classes, values=(value, value))
        return replace(predictor, multi_label=True, thresholds=thresholds)

    require_difference(dataset, with_threshold(0.1), with_threshold(0.9), "decision")


def require_difference(dataset: Dataset, reference: Predictor, candidate: Predictor, stage: str) -> None:
    samples = choose_parity_samples(dataset)
    with pytest.raises(GossamerError, match=rf"stage: {stage}") as caught:
        measure_parity(reference, candidate, dataset, samples)
    assert caught.value.code is ErrorCode.INTEGRITY
    assert caught.value.where in {sample.id for sample in samples}
    found = measure_parity(reference, candidate, dataset, samples, strict=False)
    assert (found.images, found.tolerance) == (len(samples), None)
    assert found.decisions < 1 or stage != "decision"


def test_labels_may_differ_only_very_close_to_a_threshold(
    pictures: tuple[ClassificationDataset, ClassificationPredictor],
) -> None:
    dataset, predictor = pictures
    samples = choose_parity_samples(dataset)
    inputs = predictor.preprocessing.network_input(dataset.read_image(samples[0]))[None]
    cut = float(replace(predictor, multi_label=True).probabilities(inputs)[0, 0])

    def with_threshold(value: float) -> Predictor:
        thresholds = Thresholds(rule="f1", labels=predictor.classes, values=(value, 1.0))
        return replace(predictor, multi_label=True, thresholds=thresholds)

    found = measure_parity(with_threshold(cut + 1e-6), with_threshold(cut - 1e-6), dataset, samples[:1])
    assert found.decisions == 0
    with pytest.raises(GossamerError, match="stage: decision"):
        measure_parity(with_threshold(cut + 0.01), with_threshold(cut - 0.01), dataset, samples[:1])


def test_logits_of_another_shape_differ(pictures: tuple[ClassificationDataset, ClassificationPredictor]) -> None:
    dataset, predictor = pictures
    fewer = replace(predictor, network=lambda inputs: predictor.network(inputs)[:, :1])
    with pytest.raises(GossamerError, match="stage: network"):
        measure_parity(predictor, fewer, dataset, choose_parity_samples(dataset))


def test_a_discontinuous_network_may_move_few_pixels(
    volumes: tuple[SegmentationDataset, SegmentationPredictor],
) -> None:
    """One pixel in a thousand may differ where rounding chooses between places of maxima."""
    dataset, predictor = volumes
    samples = choose_parity_samples(dataset)

    def move_pixels(count: int) -> Predictor:
        def compute_logits(windows: np.ndarray) -> np.ndarray:
            logits = predictor.network(windows).copy()
            logits[:, 0, 3, 5 : 5 + count] += 0.02
            return logits

        return replace(predictor, network=compute_logits)

    with pytest.raises(GossamerError, match="stage: network"):
        measure_parity(predictor, move_pixels(1), dataset, samples)
    discontinuous = replace(predictor, continuous=False)
    assert measure_parity(discontinuous, move_pixels(1), dataset, samples).probabilities > 1e-3
    with pytest.raises(GossamerError, match="stage: network"):
        measure_parity(discontinuous, move_pixels(4), dataset, samples)
