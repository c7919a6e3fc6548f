"""Metrics against hand-made cases and against an independent definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer.evaluate.metrics import METRICS, classification_metrics


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


def test_auroc_is_the_probability_of_ranking_a_pair_rightly() -> None:
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


def test_calibration_of_a_forecaster_that_is_always_ten_percent_too_sure() -> None:
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
