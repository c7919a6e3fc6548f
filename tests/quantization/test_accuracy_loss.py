"""What is lost, and how sure that is: known losses of known answers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from test_calibrate import volumes

from gossamer.data import ClassificationDataset, LabelledCase, SegmentationDataset
from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.segmentation import bundle_predictor
from gossamer.quantization.accuracy_loss import measure_paired_drop, measure_quality, measure_reference
from made_bundles import write_segmenter


def answering(bundle: Bundle, change) -> Bundle:
    """The bundle with other logits: a function of its own, and of how many calls were made before."""
    calls: list[int] = []

    def run(windows: np.ndarray) -> np.ndarray:
        calls.append(len(windows))
        return change(bundle.engine.run(windows), len(calls) - 1)

    return dataclasses.replace(bundle, engine=dataclasses.replace(bundle.engine, run=run))


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


def test_equal_answers_lose_nothing(float_bundle: Path, chest: ClassificationDataset) -> None:
    bundle = open_bundle(float_bundle, threads=1)
    found = measure_reference(bundle, chest, "val", "auroc", 0)(bundle)
    images = chest.split("val")
    assert (found.samples, found.groups) == (len(images), len({sample.patient for sample in images}))
    assert (found.drop.value, found.drop.low, found.drop.high) == (0, 0, 0)
    assert (found.sqnr_db, found.flips) == (math.inf, 0)
    assert found.float32 == found.int8
    assert not math.isnan(found.float32)


def test_turned_answers_lose_everything(float_bundle: Path, chest: ClassificationDataset) -> None:
    bundle = open_bundle(float_bundle, threads=1)
    turned = answering(bundle, lambda logits, call: logits[:, ::-1].copy())
    found = measure_reference(bundle, chest, "val", "auroc", 0)(turned)
    assert found.flips == 1
    assert found.int8 == pytest.approx(1 - found.float32, abs=1e-6)
    assert found.drop.value == pytest.approx(2 * found.float32 - 1, abs=1e-6)
    lower = measure_reference(bundle, chest, "val", "brier", 0)(turned)
    assert lower.drop.value == pytest.approx(lower.int8 - lower.float32)


def test_one_answer_for_all_is_refused(float_bundle: Path, chest: ClassificationDataset) -> None:
    bundle = open_bundle(float_bundle, threads=1)
    with pytest.raises(GossamerError, match="vary"):
        measure_reference(bundle, chest, "val", "auroc", 0)(
            answering(bundle, lambda logits, call: np.ones_like(logits))
        )


@pytest.mark.parametrize("metric", ["dice", "AUROC"])
def test_metrics_of_another_task_are_refused(float_bundle: Path, chest: ClassificationDataset, metric: str) -> None:
    with pytest.raises(GossamerError, match="use one of auroc") as caught:
        measure_reference(open_bundle(float_bundle, threads=1), chest, "val", metric, 0)
    assert caught.value.code is ErrorCode.CONFIG


def test_quality_stands_beside_the_trivial_answer(float_bundle: Path, chest: ClassificationDataset) -> None:
    found = measure_quality(open_bundle(float_bundle, threads=1), chest, "test", 0)
    assert set(found["auroc"]) == {"value", "low", "high", "trivial"}
    assert found["auroc"]["trivial"] == 0.5


@pytest.fixture
def masks(tmp_path: Path) -> tuple[Bundle, SegmentationDataset]:
    """A segmenter, and volumes whose truth is its own answer but for the first case, where a slice is missing."""
    bundle = open_bundle(write_segmenter(tmp_path / "bundle", stack=3), threads=1)
    source, model = volumes(cases=4), bundle_predictor(bundle)

    def read(sample) -> LabelledCase:
        image = source.read(sample).image
        planes = model.predict(image).planes.copy()
        if sample.id == "val0":
            planes[:, 1] = False
        return LabelledCase(image, LabelMap(planes, source.classes, False, sample.id))

    return bundle, dataclasses.replace(source, reader=read)


def test_masks_are_compared_case_by_case(masks: tuple[Bundle, SegmentationDataset]) -> None:
    bundle, dataset = masks
    judge = measure_reference(bundle, dataset, "val", "dice", 0)
    same = judge(bundle)
    assert (same.samples, same.drop.value, same.flips, same.sqnr_db) == (4, 0, 0, math.inf)
    assert 0.9 < same.float32 < 1

    # Without its liver (logit 1) the network finds background or bowel wherever the liver was.
    def no_liver(logits: np.ndarray, call: int) -> np.ndarray:
        changed = logits.copy()
        changed[:, 1] -= 1e4
        return changed

    found = judge(answering(bundle, no_liver))
    predictor = bundle_predictor(bundle)
    images = [dataset.read(sample).image for sample in dataset.split("val")]
    held = np.mean([predictor.predict(image).planes[0].mean() for image in images])
    assert found.flips == pytest.approx(float(held), abs=1e-6)
    assert found.int8 < 0.51
    assert found.drop.value == pytest.approx(found.float32 - found.int8)
    assert found.drop.low <= found.drop.value <= found.drop.high
