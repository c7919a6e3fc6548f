"""Metrics in numpy compared with torchmetrics and MONAI, on random and on adversarial inputs."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from gossamer.evaluation.classification_metrics import CALIBRATION_BINS, METRICS, metrics_and_labels
from gossamer.evaluation.surfaces import surface_metrics

SAMPLES = 211


def draw_scores(kind: str, classes: int, seed: int) -> np.ndarray:
    """Probabilities ``(samples, classes)``, float32; only ``saturated`` rows need not sum to 1."""
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.full(classes, 0.7), SAMPLES)
    if kind == "ties":
        scores = np.round(scores * 15) / 15  # on the limits of the calibration bins
    elif kind == "constant":
        scores = np.full_like(scores, 1 / classes)
    elif kind == "saturated":
        scores = np.round(scores)
    return scores.astype(np.float32)


def draw_targets(absent: int | None, classes: int, seed: int) -> np.ndarray:
    choice = [k for k in range(classes) if k != absent]
    return np.eye(classes, dtype=np.float32)[np.random.default_rng(seed + 9).choice(choice, SAMPLES)]


def expected_binary(scores: np.ndarray, decided: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    s, d, t = torch.from_numpy(scores), torch.from_numpy(decided).long(), torch.from_numpy(truth).long()
    positives, negatives = int(t.sum()), int((1 - t).sum())
    found = {
        "auroc": float(tm.binary_auroc(s, t)) if positives and negatives else math.nan,
        "average_precision": float(tm.binary_average_precision(s, t)) if positives else math.nan,
        "accuracy": float(tm.binary_accuracy(d, t)),
        "f1": float(tm.binary_f1_score(d, t)) if positives else math.nan,
        "sensitivity": float(tm.binary_recall(d, t)) if positives else math.nan,
        "specificity": float(tm.binary_specificity(d, t)) if negatives else math.nan,
        "brier": float((s.double() - t).square().mean()),
        "ece": float(tm.binary_calibration_error(s, t, n_bins=CALIBRATION_BINS)),
    }
    recalls = [found[name] for name in ("sensitivity", "specificity") if not math.isnan(found[name])]
    return found | {"balanced_accuracy": float(np.mean(recalls))}


KINDS = ("random", "ties", "constant", "saturated")


@pytest.mark.parametrize("absent", [None, 0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_two_classes_equal_torchmetrics(kind: str, absent: int | None) -> None:
    for seed in range(3):
        scores, targets = draw_scores(kind, 2, seed), draw_targets(absent, 2, seed)
        expected = expected_binary(scores[:, 1], scores[:, 1] > 0.5, targets[:, 1])
        whole, (label,) = metrics_and_labels(scores, targets, multi_label=False)
        assert whole == pytest.approx({name: expected[name] for name in METRICS}, abs=1e-6, nan_ok=True)
        assert label == pytest.approx({name: expected[name] for name in label}, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_several_labels_equal_torchmetrics(kind: str) -> None:
    for seed in range(3):
        scores, targets = draw_scores(kind, 4, seed), draw_targets(None, 4, seed)
        targets[:, 0], targets[:, 1] = 0, 1
        cuts = np.array([0.5, 0.2, 1 / 15, 0.6])
        expected = [expected_binary(scores[:, k], scores[:, k] > cuts[k], targets[:, k]) for k in range(4)]
        whole, labels = metrics_and_labels(scores, targets, multi_label=True, thresholds=cuts)
        for label, wanted in zip(labels, expected, strict=True):
            assert label == pytest.approx({name: wanted[name] for name in label}, abs=1e-6, nan_ok=True)
        for name in set(METRICS) - {"balanced_accuracy"}:
            assert whole[name] == pytest.approx(np.nanmean([one[name] for one in expected]), abs=1e-6)
        balanced = [one["balanced_accuracy"] for one in expected if not math.isnan(one["auroc"])]
        assert whole["balanced_accuracy"] == pytest.approx(np.mean(balanced), abs=1e-6)


@pytest.mark.parametrize("absent", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_several_classes_equal_torchmetrics(kind: str, absent: int | None) -> None:
    for seed in range(3):
        scores, targets = draw_scores(kind, 5, seed), draw_targets(absent, 5, seed)
        truth = torch.from_numpy(targets.argmax(axis=1))
        chosen = torch.from_numpy(scores.argmax(axis=1))
        present = [k for k in range(5) if k != absent]
        columns = [expected_binary(scores[:, k], scores[:, k] > 0.5, targets[:, k]) for k in range(5)]
        whole, labels = metrics_and_labels(scores, targets, multi_label=False)
        for label, wanted in zip(labels, columns, strict=True):
            assert label == pytest.approx({name: wanted[name] for name in label}, abs=1e-6, nan_ok=True)
        options = {"num_classes": 5, "average": "none"}
        expected = {
            "auroc": np.nanmean([column["auroc"] for column in columns]),
            "average_precision": np.nanmean([column["average_precision"] for column in columns]),
            "accuracy": float((chosen == truth).double().mean()),
            "balanced_accuracy": float(tm.multiclass_recall(chosen, truth, **options)[present].mean()),
            "f1": float(tm.multiclass_f1_score(chosen, truth, **options)[present].mean()),
            "brier": float(np.square(scores.astype(float) - targets).sum(axis=1).mean()),
            "ece": float(
                tm.multiclass_calibration_error(
                    torch.from_numpy(scores), truth, num_classes=5, n_bins=CALIBRATION_BINS, validate_args=False
                )
            ),
        }
        assert whole == pytest.approx(expected, abs=1e-6)


def test_calibration_bins_are_those_of_torch() -> None:
    limits = torch.linspace(0, 1, CALIBRATION_BINS + 1)
    for score in limits.tolist():
        scores = torch.tensor([score, 0.99, 0.01])
        truth = torch.tensor([1, 0, 0])
        expected = float(tm.binary_calibration_error(scores, truth, n_bins=CALIBRATION_BINS))
        stacked = np.stack([1 - scores.numpy(), scores.numpy()], axis=1)
        found, _ = metrics_and_labels(stacked, np.eye(2)[truth.numpy()], multi_label=False)
        assert found["ece"] == pytest.approx(expected, abs=1e-6)


def monai_surfaces(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    a, b = (torch.from_numpy(mask.copy())[None, None] for mask in (predicted, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hausdorff = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
        agreement = compute_surface_dice(a, b, [tolerance], include_background=True, spacing=spacing)
    return float(hausdorff), float(agreement)


def draw_masks(shape: tuple[int, ...], shift: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two ellipsoids with noisy borders, one shifted along every axis."""
    generator = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"))
    sizes = np.array(shape).reshape(-1, *[1] * len(shape))
    first, second = (
        np.linalg.norm((places - sizes * 0.4 - move) / (sizes * 0.3), axis=0) + generator.normal(0, noise, shape) < 1
        for move in (0, shift)
    )
    return first, second


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((31, 44), (1.0, 1.0)),
        ((44, 31), (0.3, 1.7)),
        ((3, 90), (1.0, 0.4)),
        ((9, 23, 17), (1.0, 1.0, 1.0)),
        ((7, 33, 26), (5.0, 0.7, 0.9)),
        ((19, 12, 14), (0.6, 2.0, 1.1)),
        ((13, 24, 4), (1.0, 0.8, 3.3)),
    ],
)
@pytest.mark.parametrize(("shift", "noise"), [(0, 0.0), (1, 0.02), (3, 0.3)])
def test_surfaces_equal_monai(shape: tuple[int, ...], spacing: tuple[float, ...], shift: int, noise: float) -> None:
    predicted, truth = draw_masks(shape, min(shift, min(shape) // 3), noise, 4)
    for tolerance in (0.0, 1.0, spacing[-1]):
        found = surface_metrics(predicted, truth, spacing, tolerance)
        assert found == pytest.approx(monai_surfaces(predicted, truth, spacing, tolerance), abs=1e-5, rel=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 3.0, 1.3), (2.5, 0.8, 0.8)])
def test_distant_surfaces_equal_monai(spacing: tuple[float, ...]) -> None:
    generator = np.random.default_rng(1)
    shape = (50, 61, 43)
    truth, predicted = np.zeros(shape, bool), np.zeros(shape, bool)
    truth[2:7, 3:9, 1:6] = generator.random((5, 6, 5)) < 0.7
    predicted[40:49, 50:60, 30:42] = generator.random((9, 10, 12)) < 0.7
    predicted[4, 5, 3] = True
    for first, second in ((predicted, truth), (truth, predicted)):
        found = surface_metrics(first, second, spacing, 1.5)
        assert found == pytest.approx(monai_surfaces(first, second, spacing, 1.5), rel=1e-6, abs=1e-6)


def test_distant_surfaces_of_pictures_equal_monai() -> None:
    truth, predicted = np.zeros((600, 500), bool), np.zeros((600, 500), bool)
    truth[5:9, 7:20], predicted[560:590, 400:480] = True, True
    found = surface_metrics(predicted, truth, (1.3, 0.4), 1.0)
    assert found == pytest.approx(monai_surfaces(predicted, truth, (1.3, 0.4), 1.0), rel=1e-6)
