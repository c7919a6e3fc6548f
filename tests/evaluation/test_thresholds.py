"""Thresholds of labels against a search over every one that decides differently."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.thresholds import choose_thresholds, find_best_threshold
from gossamer.inference.decisions import Rule, Thresholds, thresholded_classes


def quality(scores: np.ndarray, truth: np.ndarray, threshold: float, rule: Rule) -> float:
    called = scores.astype(np.float64) > threshold
    hits, alarms = (called & truth).sum(), (called & ~truth).sum()
    if rule == "f1":
        return 2 * hits / (2 * hits + alarms + (~called & truth).sum())
    return hits / truth.sum() + (~called & ~truth).sum() / (~truth).sum() - 1


@pytest.mark.parametrize("rule", ["f1", "youden"])
@pytest.mark.parametrize("seed", range(12))
def test_no_other_threshold_is_better(rule: Rule, seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.random(43) < (0.1, 0.4, 0.9)[seed % 3]
    truth[:2] = True, False
    scores = np.clip(0.3 * truth + generator.random(43), 0, 1).astype(np.float32)  # several of them exactly 1
    if seed % 2:
        scores = np.round(scores, 1)  # with ties, and some of exactly 0
    found = find_best_threshold(scores, truth, rule)
    cuts = np.unique(np.concatenate([[0.0, 1.0], scores.astype(np.float64)]))
    searched = [quality(scores, truth, float(cut), rule) for cut in np.concatenate([cuts, (cuts[1:] + cuts[:-1]) / 2])]
    assert quality(scores, truth, found, rule) == pytest.approx(max(searched), abs=1e-12)
    assert np.abs(scores.astype(np.float64) - found).min() > 0  # no score stands on the border


def test_the_middle_of_the_interval_is_taken() -> None:
    truth = np.array([False, False, True, True])
    assert find_best_threshold(np.array([0.1, 0.2, 0.6, 0.9], np.float64), truth, "f1") == pytest.approx(0.4)
    assert find_best_threshold(np.array([0.1, 0.2, 0.6, 0.9], np.float64), truth, "youden") == pytest.approx(0.4)


def test_of_two_intervals_the_wider_is_taken() -> None:
    # Between 0.1 and 0.2 all positives and half of the negatives are called, from 0.3 to 0.8 half and none.
    scores, truth = np.array([0.1, 0.2, 0.3, 0.8]), np.array([False, True, False, True])
    assert find_best_threshold(scores, truth, "youden") == pytest.approx(0.55)
    assert find_best_threshold(scores, truth, "f1") == pytest.approx(0.15)  # 4 / 5 and 2 / 3: no tie


def test_f1_and_youden_disagree_on_a_rare_label() -> None:
    scores = np.concatenate([np.linspace(0.05, 0.45, 41), np.linspace(0.31, 0.44, 5), [0.9]])
    truth = np.concatenate([np.zeros(41, bool), np.ones(6, bool)])
    assert find_best_threshold(scores, truth, "f1") > find_best_threshold(scores, truth, "youden")


def test_a_label_without_validation_examples_keeps_one_half() -> None:
    generator = np.random.default_rng(3)
    probabilities = generator.random((31, 4)).astype(np.float32)
    targets = (generator.random((31, 4)) < 0.5).astype(np.float32)
    targets[:, 1], targets[:, 2], targets[:, 3] = 0, 1, np.arange(31) < 3
    names = ("mass", "hernia", "lung", "edema")
    found, notes = choose_thresholds(probabilities, targets, names, multi_label=True, where="chest")
    assert found is not None
    assert found.kept == ("hernia", "lung")
    assert found.values[1:3] == (0.5, 0.5)
    texts = [note.text for note in notes]
    assert texts[0] == "no validation image has hernia: its threshold stays 0.5"
    assert texts[1] == "every validation image has lung: its threshold stays 0.5"
    assert "edema (3 with, 28 without)" in texts[2]
    assert "mass" not in texts[2]


def test_which_labels_have_a_threshold() -> None:
    assert thresholded_classes(("a", "b"), multi_label=True) == ("a", "b")
    assert thresholded_classes(("clear", "nodule"), multi_label=False) == ("nodule",)
    probabilities, targets = np.full((5, 3), 1 / 3), np.eye(3)[[0, 1, 2, 0, 1]]
    assert choose_thresholds(probabilities, targets, ("a", "b", "c"), multi_label=False, where="x") == (None, ())
    scores = np.array([0.1, 0.7, 0.2, 0.9, 0.3], np.float32)
    two, _ = choose_thresholds(
        np.stack([1 - scores, scores], axis=1), np.eye(2)[[0, 1, 0, 1, 0]], ("a", "b"), multi_label=False, where="x"
    )
    assert two is not None
    assert two.values == (pytest.approx(0.5),)
    assert two.kept == ()


def test_thresholds_survive_json_exactly_and_are_checked() -> None:
    written = Thresholds(rule="youden", labels=("mass", "edema"), values=(1 / 3, 0.1 + 0.2), kept=("mass",))
    data = json.loads(json.dumps(written.to_json()))
    assert Thresholds.from_json(data, "t.json", ("mass", "edema")) == written
    for broken, code in (
        (data | {"values": [0.5]}, ErrorCode.VALUE),
        (data | {"values": [0.5, 1.5]}, ErrorCode.VALUE),
        (data | {"values": [0.5, float("nan")]}, ErrorCode.VALUE),
        (data | {"labels": ["mass", "mass"]}, ErrorCode.VALUE),
        (data | {"labels": ["edema", "mass"]}, ErrorCode.VALUE),  # another order would give one label another's value
        (data | {"kept": ["nodule"]}, ErrorCode.VALUE),
        (data | {"rule": "guess"}, ErrorCode.CONFIG),
        ([0.5, 0.5], ErrorCode.CONFIG),
    ):
        with pytest.raises(GossamerError) as caught:
            Thresholds.from_json(broken, "t.json", ("mass", "edema"))
        assert caught.value.code is code, broken
