"""Accuracy loss of int8 with its interval: known losses of known predictions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_calibrate import volumes

from gossamer.data import ClassificationDataset, LabelledCase, Sample, SegmentationDataset
from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import open_bundle
from gossamer.inference.classification import ClassificationPredictor
from gossamer.inference.classification import bundle_predictor as classification_predictor
from gossamer.inference.predictor import Predictor
from gossamer.inference.segmentation import SegmentationPredictor
from gossamer.inference.segmentation import bundle_predictor as segmentation_predictor
from gossamer.quantization import classification, segmentation
from gossamer.quantization.accuracy_loss import measure_paired_drop
from gossamer.quantization.tasks import choose_metric
from made_bundles import write_segmenter


def with_logits(predictor: Predictor, change: Callable[[np.ndarray], np.ndarray]) -> Predictor:
    """Return the predictor with other logits."""
    return dataclasses.replace(predictor, network=lambda inputs: change(predictor.network(inputs)))


def test_the_drop_is_paired_over_patients() -> None:
    before = np.array([0.9, 0.5, 0.7, 0.1, 0.3, 0.8])
    groups = ["p1", "p1", "p2", "p3", "p3", "p4"]
    float32, int8, drop = measure_paired_drop(
        lambda rows: (float(before[rows].mean()), float(before[rows].mean() - 0.25)),
        groups, larger_is_better=True, seed=0,
    )  # fmt: skip
    # However much patients differ, each loses the same: no interval at all.
    assert (float32, int8) == (pytest.approx(before.mean()), pytest.approx(before.mean() - 0.25))
    assert (drop.value, drop.low, drop.high) == (pytest.approx(0.25),) * 3
    *_, worse = measure_paired_drop(lambda rows: (0.1, 0.4), groups, larger_is_better=False, seed=0)
    assert worse.value == pytest.approx(0.3)
    *_, uneven = measure_paired_drop(
        lambda rows: (float(before[rows].mean()), 0.0), groups, larger_is_better=True, seed=0
    )  # fmt: skip
    assert uneven.low < uneven.value < uneven.high


@pytest.fixture
def predictor(float_bundle: Path) -> ClassificationPredictor:
    return classification_predictor(open_bundle(float_bundle, threads=1))


def test_equal_predictions_lose_nothing(predictor: ClassificationPredictor, chest: ClassificationDataset) -> None:
    found = classification.measure_reference(predictor, chest, "val", "auroc", 0).measure_loss(predictor)
    images = chest.split("val")
    assert (found.samples, found.groups) == (len(images), len({sample.patient for sample in images}))
    assert (found.drop.value, found.drop.low, found.drop.high) == (0, 0, 0)
    assert (found.sqnr_db, found.flips) == (math.inf, 0)
    assert found.float32 == found.int8
    assert not math.isnan(found.float32)


def test_reversed_predictions_lose_everything(predictor: ClassificationPredictor, chest: ClassificationDataset) -> None:
    turned = with_logits(predictor, lambda logits: logits[:, ::-1].copy())
    found = classification.measure_reference(predictor, chest, "val", "auroc", 0).measure_loss(turned)
    assert found.flips == 1
    assert found.int8 == pytest.approx(1 - found.float32, abs=1e-6)
    assert found.drop.value == pytest.approx(2 * found.float32 - 1, abs=1e-6)
    lower = classification.measure_reference(predictor, chest, "val", "brier", 0).measure_loss(turned)
    assert lower.drop.value == pytest.approx(lower.int8 - lower.float32)


def test_the_same_logits_for_all_images_are_refused(
    predictor: ClassificationPredictor, chest: ClassificationDataset
) -> None:
    reference = classification.measure_reference(predictor, chest, "val", "auroc", 0)
    with pytest.raises(GossamerError) as caught:
        reference.measure_loss(with_logits(predictor, np.ones_like))
    assert (caught.value.code, caught.value.where) == (ErrorCode.VALUE, "int8")


@pytest.mark.parametrize("metric", ["dice", "AUROC"])
def test_metrics_of_another_task_are_refused(metric: str) -> None:
    with pytest.raises(GossamerError) as caught:
        choose_metric("classify", metric)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "metric")


def test_metrics_have_a_default() -> None:
    assert (choose_metric("classify", None), choose_metric("segment", None)) == ("auroc", "dice")
    assert choose_metric("segment", "jaccard") == "jaccard"


def test_quality_contains_the_trivial_baseline(
    predictor: ClassificationPredictor, chest: ClassificationDataset
) -> None:
    found = classification.measure_quality(predictor, chest, "test", 0)
    assert set(found["auroc"]) == {"value", "low", "high", "trivial"}
    assert found["auroc"]["trivial"] == 0.5


@pytest.fixture
def masks(tmp_path: Path) -> tuple[SegmentationPredictor, SegmentationDataset]:
    """A segmenter, and volumes whose truth is its prediction, except for a slice that the first case lacks."""
    predictor = segmentation_predictor(open_bundle(write_segmenter(tmp_path / "bundle", stack=3), threads=1))
    source = volumes(cases=4)

    def read(sample: Sample) -> LabelledCase:
        image = source.read(sample).image
        planes = predictor.predict(image).planes.copy()
        if sample.id == "val0":
            planes[:, 1] = False
        return LabelledCase(image, LabelMap(planes, source.classes, False, sample.id))

    return predictor, dataclasses.replace(source, reader=read)


def test_masks_are_compared_case_by_case(masks: tuple[SegmentationPredictor, SegmentationDataset]) -> None:
    predictor, dataset = masks
    reference = segmentation.measure_reference(predictor, dataset, "val", "dice", 0)
    same = reference.measure_loss(predictor)
    assert (same.samples, same.drop.value, same.flips, same.sqnr_db) == (4, 0, 0, math.inf)
    assert 0.9 < same.float32 < 1

    # Without the liver (logit 1) the network finds background or bowel wherever the liver was.
    def remove_liver(logits: np.ndarray) -> np.ndarray:
        changed = logits.copy()
        changed[:, 1] -= 1e4
        return changed

    found = reference.measure_loss(with_logits(predictor, remove_liver))
    images = [dataset.read(sample).image for sample in dataset.split("val")]
    liver = np.mean([predictor.predict(image).planes[0].mean() for image in images])
    assert found.flips == pytest.approx(float(liver), abs=1e-6)
    assert found.int8 < 0.51
    assert found.drop.value == pytest.approx(found.float32 - found.int8)
    assert found.drop.low <= found.drop.value <= found.drop.high
