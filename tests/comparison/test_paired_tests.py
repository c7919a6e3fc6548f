"""Intervals and tests of a comparison against figures by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gossamer.comparison.paired_tests import (
    add_estimates,
    average_over_seeds,
    correct_holm,
    draw_weights,
    estimate_difference,
    negate_estimate,
)
from gossamer.comparison.scores import MeanScores, RankScores, Scores
from gossamer.evaluation.bootstrap import Estimate


def ranks(outputs: np.ndarray, truth: np.ndarray, groups: list[str] | None = None) -> RankScores:
    ids = tuple(f"image {k}" for k in range(len(outputs)))
    return RankScores(ids, tuple(groups or ids), outputs.reshape(len(ids), -1), truth.reshape(len(ids), -1))


def masks(dice: np.ndarray) -> MeanScores:
    ids = tuple(f"case {k}" for k in range(len(dice)))
    return MeanScores(ids, ids, dice, ~np.isnan(dice))


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    scores = ranks(np.array([0.1, 0.4, 0.4, 0.8, 0.9]), np.array([0, 0, 1, 1, 0]))
    # Pairs: (0.4: above 0.1, ties 0.4, below 0.9), (0.8: above 0.1 and 0.4, below 0.9): 1.5 + 2 of 6.
    assert scores.value() == pytest.approx(3.5 / 6, abs=1e-15)


def test_weights_count_a_sample_as_often_as_it_was_drawn() -> None:
    generator = np.random.default_rng(1)
    outputs, truth = np.round(generator.random((23, 3)), 1), generator.random((23, 3)) < 0.4
    weights = generator.integers(4, size=(5, 23)).astype(np.uint8)
    found = ranks(outputs, truth).metric(weights)
    for row, value in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(23), row)
        assert value == pytest.approx(ranks(outputs[rows], truth[rows]).value(), abs=1e-14)


def test_many_equal_weights_do_not_overflow() -> None:
    outputs = np.repeat([0.2, 0.7], 300)
    truth = np.tile([0, 1], 300)
    assert ranks(outputs, truth).metric(np.ones((2, 600), np.uint8)) == pytest.approx(0.5)


def test_class_without_positives_is_omitted() -> None:
    outputs, truth = np.array([[0.1, 0.3], [0.6, 0.2], [0.9, 0.4]]), np.array([[0, 0], [1, 0], [0, 0]])
    assert ranks(outputs, truth).value() == pytest.approx(0.5)
    assert math.isnan(ranks(outputs, np.zeros((3, 2))).value())


def test_dice_is_the_mean_over_classes_of_means_over_cases() -> None:
    scores = masks(np.array([[0.8, np.nan], [0.6, 0.5], [0.7, 0.9]]))
    assert scores.value() == pytest.approx((0.7 + 0.7) / 2)
    assert scores.metric(np.array([[2, 0, 1]]))[0] == pytest.approx(((0.8 * 2 + 0.7) / 3 + 0.9) / 2)


def test_whole_patients_are_drawn() -> None:
    weights = draw_weights(["a", "a", "b", "c", "b"], resamples=40)
    assert weights.shape == (40, 5)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert draw_weights(["a", "a"]).shape == (0, 2)


def test_interval_of_a_mean_over_seeds() -> None:
    dice = np.linspace(0.2, 0.8, 31)[:, None]
    up, down = masks(dice), masks(1 - dice)  # what one seed does worse in a patient, the other does better
    weights = draw_weights(up.groups)
    both, alone = average_over_seeds([up, down], weights), average_over_seeds([up], weights)
    assert (both.value, both.low, both.high) == pytest.approx((0.5, 0.5, 0.5))
    spread = dice.std() / math.sqrt(31)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_single_patient_gives_no_interval() -> None:
    scores = ranks(np.array([0.1, 0.9, 0.4]), np.array([0, 1, 1]), ["p", "p", "p"])
    estimate = average_over_seeds([scores], draw_weights(scores.groups))
    assert estimate.value == 1.0
    assert math.isnan(estimate.low)


def exact_p(ours: list[Scores], theirs: list[Scores]) -> float:
    """All exchanges of small tables."""
    count = len(ours[0].ids)
    found = []
    for swap in itertools.product((0, 1), repeat=count):
        s = np.array([swap])
        total = 0.0
        for a, b in zip(ours, theirs, strict=True):
            both = a.stack_with(b)
            total += float(both.metric(np.hstack([1 - s, s]))[0] - both.metric(np.hstack([s, 1 - s]))[0])
        found.append(total)
    return float(np.mean(np.abs(found) >= abs(found[0]) - 1e-12))


@pytest.mark.parametrize("variant", ["masks", "ranks"])
def test_drawn_permutations_approximate_all_of_them(variant: str) -> None:
    generator = np.random.default_rng(3)
    truth = np.array([0, 1, 1, 0, 1, 0, 0, 1])

    def make(shift: float) -> Scores:
        values = generator.normal(size=8) * 0.1 + shift * (truth if variant == "ranks" else 1)
        return ranks(values, truth) if variant == "ranks" else masks(values[:, None])

    ours, theirs = [make(0.2), make(0.2)], [make(0.1), make(0.1)]
    found = estimate_difference(ours, theirs, draw_weights(ours[0].groups), test=True)
    assert found.p == pytest.approx(exact_p(ours, theirs), abs=0.025)
    assert found.estimate.value == pytest.approx(np.mean(found.seeds))


def test_monotonic_map_of_probabilities_keeps_the_p_value() -> None:
    generator = np.random.default_rng(5)
    truth = generator.random(40) < 0.5
    ours, theirs = generator.random(40) + 0.3 * truth, generator.random(40) + 0.6 * truth
    weights = draw_weights([str(k) for k in range(40)])
    plain = estimate_difference([ranks(ours, truth)], [ranks(theirs, truth)], weights, test=True)
    bent = estimate_difference([ranks(ours**3 / 50, truth)], [ranks(theirs, truth)], weights, test=True)
    assert plain == bent
    assert plain.p is not None
    assert plain.p < 1


def test_network_does_not_differ_from_itself() -> None:
    scores = masks(np.random.default_rng(2).random((17, 2)))
    found = estimate_difference([scores], [scores], draw_weights(scores.groups), test=True)
    assert (found.p, found.estimate.value, found.estimate.low <= 0 <= found.estimate.high) == (1.0, 0.0, True)


def test_patients_exchange_all_their_images_at_once() -> None:
    generator = np.random.default_rng(4)
    truth, groups = np.tile([0, 1], 30), [f"p{k // 10}" for k in range(60)]
    ours, theirs = generator.normal(size=60) + 2 * truth, generator.normal(size=60) + 0.2 * truth
    of_images = estimate_difference([ranks(ours, truth)], [ranks(theirs, truth)], np.empty((0, 60)), test=True)
    of_patients = estimate_difference(
        [ranks(ours, truth, groups)], [ranks(theirs, truth, groups)], np.empty((0, 60)), test=True
    )
    assert of_images.p is not None
    assert of_patients.p is not None
    assert of_images.p < 0.01
    assert of_patients.p >= 2 / 2**6 - 0.01  # six patients have 64 exchanges, and both ends count


def test_holm_by_hand() -> None:
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert correct_holm([0.9, 0.7, 0.8]) == [1.0, 1.0, 1.0]
    assert correct_holm([]) == []


def test_distances_of_ends_add_in_quadrature() -> None:
    found = add_estimates(Estimate(0.02, -0.01, 0.06), Estimate(0.01, -0.03, 0.04))
    assert (found.value, found.low, found.high) == pytest.approx((0.03, -0.02, 0.08))
    assert negate_estimate(Estimate(0.1, 0.0, 0.3)) == Estimate(-0.1, -0.3, -0.0)
