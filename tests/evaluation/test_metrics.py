"""Metrics against hand-made cases and against an independent definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer.evaluation.classification_metrics import (
    LABEL_METRICS,
    METRICS,
    classification_metrics,
    metrics_and_labels,
)


def one_hot(labels: list[int], classes: int) -> np.ndarray:
    return np.eye(classes)[labels]


def binary(scores: list[float]) -> np.ndarray:
    positive = np.array(scores, np.float32)
    return np.stack([1 - positive, positive], axis=1)


def test_a_hand_made_binary_case() -> None:
    metrics = classification_metrics(binary([0.1, 0.4, 0.35, 0.8]), one_hot([0, 0, 1, 1], 2), multi_label=False)
    assert metrics["auroc"] == pytest.approx(0.75)
    assert metrics["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics["accuracy"] == pytest.approx(0.75)
    assert metrics["balanced_accuracy"] == pytest.approx(0.75)
    assert metrics["f1"] == pytest.approx(2 / 3)
    assert metrics["brier"] == pytest.approx((0.01 + 0.16 + 0.65**2 + 0.04) / 4)


def test_auroc_is_the_share_of_correctly_ranked_pairs() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 60)
    scores = np.round(generator.random(60), 1)  # with ties
    pairs = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in range(60)
        for j in range(60)
        if labels[i] > labels[j]
    ]
    found = classification_metrics(binary(scores.tolist()), one_hot(labels.tolist(), 2), multi_label=False)
    assert found["auroc"] == pytest.approx(np.mean(pairs), abs=1e-6)


def test_calibration_error_of_ten_percent_overconfidence() -> None:
    labels = [1] * 80 + [0] * 20
    found = classification_metrics(binary([0.9] * 100), one_hot(labels, 2), multi_label=False)
    assert found["ece"] == pytest.approx(0.1, abs=1e-6)


def test_one_class_only_is_undefined_and_not_a_half() -> None:
    found = classification_metrics(binary([0.2, 0.7]), one_hot([0, 0], 2), multi_label=False)
    assert math.isnan(found["auroc"])
    assert math.isnan(found["average_precision"])
    assert found["balanced_accuracy"] == pytest.approx(0.5)


def test_more_classes_are_macro_averages_over_those_present() -> None:
    probabilities = np.array(
        [[0.7, 0.2, 0.1, 0], [0.1, 0.8, 0.1, 0], [0.3, 0.4, 0.3, 0], [0.2, 0.1, 0.7, 0]], np.float32
    )
    found = classification_metrics(probabilities, one_hot([0, 1, 0, 2], 4), multi_label=False)
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["auroc"] == pytest.approx(1.0)
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    squares = (probabilities - one_hot([0, 1, 0, 2], 4)) ** 2
    assert found["brier"] == pytest.approx(squares.sum(axis=1).mean())


def test_several_labels_are_averaged_over_the_defined_ones() -> None:
    probabilities = np.array([[0.9, 0.2, 0.5], [0.2, 0.7, 0.5], [0.6, 0.1, 0.5]], np.float32)
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    found = classification_metrics(probabilities, truth, multi_label=True)
    assert found["auroc"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["accuracy"] == pytest.approx((1 + 2 / 3 + 1) / 3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_every_metric_is_there(multi_label: bool) -> None:
    truth = one_hot([0, 1, 2, 0], 3)
    assert set(classification_metrics(truth.astype(np.float32), truth, multi_label=multi_label)) == set(METRICS)


def ranked_rightly(scores: np.ndarray, truth: np.ndarray) -> float:
    gaps = scores[truth][:, None].astype(np.float64) - scores[~truth][None]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def area_under_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """The sum over the distinct scores of precision times the gain in recall."""
    area, found = 0.0, 0.0
    for score in sorted(set(scores.tolist()), reverse=True):
        called = scores >= score
        recall = (called & truth).sum() / truth.sum()
        area += (recall - found) * truth[called].mean()
        found = recall
    return area


@pytest.mark.parametrize("multi_label", [True, False])
def test_each_label_follows_its_definition(multi_label: bool) -> None:
    generator = np.random.default_rng(5)
    probabilities = np.round(generator.dirichlet([1, 2, 3], 47), 2).astype(np.float32)  # with ties
    truth = generator.random((47, 3)) < (0.1, 0.3, 0.7) if multi_label else one_hot([k % 3 for k in range(47)], 3) > 0
    cuts = np.array([0.05, 0.4, 0.61])
    options = {"multi_label": multi_label, "thresholds": cuts if multi_label else None}
    whole, labels = metrics_and_labels(probabilities, truth.astype(np.float32), **options)
    assert len(labels) == 3
    for k, label in enumerate(labels):
        scores, has = probabilities[:, k], truth[:, k]
        assert label["auroc"] == pytest.approx(ranked_rightly(scores, has), abs=1e-6)
        assert label["average_precision"] == pytest.approx(area_under_precision(scores, has), abs=1e-6)
        if multi_label:
            called = scores > cuts[k]
            assert label["sensitivity"] == pytest.approx(called[has].mean())
            assert label["specificity"] == pytest.approx(1 - called[~has].mean())
            assert label["f1"] == pytest.approx(2 * (called & has).sum() / (called.sum() + has.sum()))
    for name in ("auroc", "average_precision"):
        assert whole[name] == pytest.approx(np.mean([label[name] for label in labels]))
    if multi_label:
        called = probabilities > cuts
        assert whole["accuracy"] == pytest.approx((called == truth).mean())
        assert whole["f1"] == pytest.approx(np.mean([label["f1"] for label in labels]))
        both = [(label["sensitivity"] + label["specificity"]) / 2 for label in labels]
        assert whole["balanced_accuracy"] == pytest.approx(np.mean(both))


def test_an_absent_label_is_undefined_and_not_averaged() -> None:
    probabilities = np.array([[0.9, 0.8], [0.2, 0.7], [0.6, 0.1]], np.float32)
    truth = np.array([[1, 0], [0, 0], [1, 0]])
    whole, (present, absent) = metrics_and_labels(probabilities, truth, multi_label=True)
    assert present == {"auroc": 1, "average_precision": 1, "sensitivity": 1, "specificity": 1, "f1": 1}
    assert all(math.isnan(absent[name]) for name in ("auroc", "average_precision", "sensitivity", "f1"))
    assert absent["specificity"] == pytest.approx(1 / 3)
    assert (whole["auroc"], whole["f1"], whole["balanced_accuracy"]) == (1, 1, 1)
    nothing = classification_metrics(np.zeros((3, 2), np.float32), truth, multi_label=True)
    assert nothing["accuracy"] == pytest.approx(1 - 2 / 6)


def test_the_threshold_of_two_classes_moves_the_label_only() -> None:
    scores, truth = [0.1, 0.4, 0.35, 0.8], one_hot([0, 0, 1, 1], 2)
    whole, (label,) = metrics_and_labels(binary(scores), truth, multi_label=False, thresholds=np.array([0.2]))
    assert whole == classification_metrics(binary(scores), truth, multi_label=False)
    assert (label["sensitivity"], label["specificity"]) == (1, 0.5)
    assert set(label) == set(LABEL_METRICS)


def test_a_threshold_between_neighbouring_floats_divides_them() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    cut = np.array([(float(low) + float(high)) / 2])
    _, (label,) = metrics_and_labels(np.array([[low], [high]]), np.array([[0], [1]]), multi_label=True, thresholds=cut)
    assert (label["sensitivity"], label["specificity"]) == (1, 1)
