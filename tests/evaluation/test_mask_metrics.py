"""Metrics of masks against values by hand and a brute-force oracle, and what is said of empty masks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gossamer.data.label_map import LabelMap
from gossamer.evaluation.segmentation_metrics import MASK_METRICS, case_metrics, overlap_metrics

NAMES = ("a", "b", "c", "d")


def labels(*planes: np.ndarray) -> LabelMap:
    return LabelMap(np.stack(planes), NAMES[: len(planes)], True, "test")


def one(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] | None = None, tolerance: float = 1.0
) -> dict[str, float]:
    found = case_metrics(labels(prediction), labels(truth), spacing, tolerance)
    assert set(found) == set(MASK_METRICS)
    return {name: float(values[0]) for name, values in found.items()}


def box(shape: tuple[int, ...], *spans: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


def edges(mask: np.ndarray) -> np.ndarray:
    """The places of a mask with a neighbour across a face that is not in it, or outside the grid."""
    found = []
    for place in np.argwhere(mask):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = place.copy()
            other[axis] += step
            if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                found.append(place)
                break
    return np.array(found)


def surfaces(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    """HD95 and surface Dice by comparing every edge with every other."""
    a, b = (edges(mask) * np.array(spacing) for mask in (prediction, truth))
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    there, back = apart.min(axis=1), apart.min(axis=0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hd95), float(((there <= tolerance).sum() + (back <= tolerance).sum()) / (len(a) + len(b)))


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Two ragged masks that mostly agree and touch the border here and there."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    radius = np.linalg.norm(grid, axis=0)
    first, second = (radius + generator.normal(0, 0.2, shape) < limit for limit in (0.8, 0.95))
    return first, second


def test_overlap_by_hand() -> None:
    truth = labels(box((5, 7), (0, 2), (0, 3)), box((5, 7), (4, 5), (0, 4)))  # 6 and 4 pixels
    prediction = labels(box((5, 7), (1, 3), (0, 3)), box((5, 7), (4, 5), (3, 7)))  # 3 and 1 of them shared, 6 and 4
    found = case_metrics(prediction, truth, None, distances=False)
    np.testing.assert_allclose(found["dice"], [6 / 12, 2 / 8])
    np.testing.assert_allclose(found["jaccard"], [3 / 9, 1 / 7])
    np.testing.assert_allclose(found["jaccard_weighted"], [(6 * 3 / 9 + 4 * 1 / 7) / 10] * 2)
    assert set(found) == {"dice", "jaccard", "jaccard_weighted"}


def test_all_slices_of_a_volume_are_pooled() -> None:
    truth, prediction = box((2, 3, 5), (0, 1), (0, 3), (0, 4)), box((2, 3, 5), (0, 2), (0, 2), (0, 4))
    assert one(prediction, truth)["dice"] == pytest.approx(2 * 8 / (12 + 16))


def test_weighted_jaccard_of_absent_and_missed_classes() -> None:
    common, predicted, wanted = np.array([5, 0, 0]), np.array([10, 7, 0]), np.array([5, 0, 15])
    found = overlap_metrics(common, predicted, wanted)
    np.testing.assert_allclose(found["jaccard"], [0.5, 0, 0])
    np.testing.assert_allclose(found["jaccard_weighted"], 0.25 * 0.5)
    nothing = overlap_metrics(np.zeros(2), np.array([3, 0]), np.zeros(2))
    assert np.isnan(nothing["jaccard_weighted"]).all()
    np.testing.assert_array_equal(nothing["dice"], [0, np.nan])


def test_conventions_for_empty_masks() -> None:
    shape, spacing = (6, 8), (0.5, 2.0)
    empty, some = np.zeros(shape, dtype=bool), box(shape, (1, 3), (2, 5))
    assert all(math.isnan(value) for value in one(empty, empty, spacing).values())
    diagonal = math.hypot(6 * 0.5, 8 * 2.0)
    for prediction, truth in ((empty, some), (some, empty)):
        found = one(prediction, truth, spacing)
        assert (found["dice"], found["jaccard"], found["surface_dice"]) == (0, 0, 0)
        assert found["hd95"] == pytest.approx(diagonal)
    assert one(some, empty)["hd95"] == pytest.approx(10.0)
    same = one(some, some, spacing)
    assert [same[name] for name in MASK_METRICS] == [1, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("spacing", "axis", "wanted"),
    [(None, 0, 40), (None, 1, 40), ((0.5, 2.0), 0, 20), ((0.5, 2.0), 1, 80), ((2.0, 0.5), 1, 20)],
)
def test_a_square_shifted_by_40_pixels(spacing: tuple[float, float] | None, axis: int, wanted: float) -> None:
    truth = box((70, 75), (5, 25), (5, 25))
    found = one(np.roll(truth, 40, axis=axis), truth, spacing)
    assert found["hd95"] == pytest.approx(wanted)
    assert found["surface_dice"] == 0
    assert one(np.roll(truth, 1, axis=axis), truth, spacing, tolerance=2.0)["surface_dice"] == 1


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((11, 14), (1.0, 1.0)),
        ((11, 14), (0.6, 1.7)),
        ((5, 9, 7), (1.0, 1.0, 1.0)),
        ((5, 9, 7), (3.0, 0.7, 1.1)),
    ],
)
@pytest.mark.parametrize("tolerance", [0.0, 0.65, 1.0, 1.8])
def test_surfaces_against_every_pair_of_edges(
    shape: tuple[int, ...], spacing: tuple[float, ...], tolerance: float
) -> None:
    for seed in range(3):
        prediction, truth = blobs(seed, shape)
        found = one(prediction, truth, spacing, tolerance)
        hd95, agreement = surfaces(prediction, truth, spacing, tolerance)
        assert found["hd95"] == pytest.approx(hd95, rel=1e-5)
        assert found["surface_dice"] == pytest.approx(agreement, rel=1e-5)
        back = one(truth, prediction, spacing, tolerance)
        assert back["hd95"] == pytest.approx(hd95, rel=1e-5)


@pytest.mark.parametrize("shape", [(11, 14), (5, 9, 7)])
def test_empty_margins_change_nothing(shape: tuple[int, ...]) -> None:
    spacing = (2.5, 0.8, 1.3)[-len(shape) :]
    touching = [box(shape, *[(0, size) for size in shape]), box(shape, *[(0, size // 2) for size in shape])]
    for prediction, truth in (blobs(4, shape), touching, touching[::-1]):
        plain = one(prediction, truth, spacing)
        for margins in ((1, 0), (23, 31)):
            wide = [np.pad(mask, [margins] * len(shape)) for mask in (prediction, truth)]
            assert one(*wide, spacing) == pytest.approx(plain, rel=1e-6)


def test_classes_are_measured_apart() -> None:
    shape = (13, 17)
    truths = [box(shape, (2, 8), (3, 9)), np.zeros(shape, dtype=bool), box(shape, (0, 13), (0, 5))]
    predictions = [np.roll(truths[0], 2, axis=1), box(shape, (1, 2), (1, 2)), truths[2]]
    together = case_metrics(labels(*predictions), labels(*truths), (1.0, 0.5))
    for k, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        alone = one(prediction, truth, (1.0, 0.5))
        for name in ("dice", "jaccard", "hd95", "surface_dice"):
            assert together[name][k] == pytest.approx(alone[name], nan_ok=True), name
