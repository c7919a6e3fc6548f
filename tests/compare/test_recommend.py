"""What is recommended, of results made by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from gossamer.compare.cell_results import STAGES, CellResult
from gossamer.compare.folder import Cell
from gossamer.compare.plan_file import Limits
from gossamer.compare.recommend import Candidate, Recommendation, candidates_of, difference_of, recommend
from gossamer.compare.results import KindResult, Results
from gossamer.compare.scores import MeanScores
from gossamer.compare.statistics import draw_weights, mean_over_seeds
from gossamer.evaluate.bootstrap import Estimate
from made_comparison import kind, measured, plan_of

CASES = 40
NOISE = np.random.default_rng(0).normal(size=(9, CASES, 2)) * 0.05


def results_of(
    means: dict[str, float],
    latencies: dict[str, dict[str, float]],
    limits: Limits = Limits(),
    drops: dict[str, Estimate] | None = None,
    **more: Any,
) -> Results:
    """Kinds with the given mean Dice, noise of their own, and the given latencies."""
    kinds = [kind(name) for name in means]
    plan = plan_of(kinds, seeds=(0,), task="segment", limits=limits)
    made = []
    ids = tuple(f"case {k}" for k in range(CASES))
    for number, (each, mean) in enumerate(zip(kinds, means.values(), strict=True)):
        dice = np.clip(mean + NOISE[number] - NOISE[number].mean(), 0, 1)
        scores = MeanScores(ids, ids, dice, np.ones_like(dice, bool))
        drop = (drops or {}).get(str(each.attention))
        cell = CellResult(
            cell=Cell(kind=each, seed=0), stages=STAGES if drop else STAGES[:2], failed=None, scores=scores, drop=drop
        )
        latency = latencies.get(str(each.attention))
        made.append(
            KindResult(
                kind=each,
                number=number + 1,
                cells=(cell,),
                quality=mean_over_seeds([scores], draw_weights(ids)),
                drop=drop,
                measured=None if latency is None else measured(latency, **more),
                twin=None,
                versus=None,
            )
        )
    return Results(
        plan=plan, metric="dice", label="Dice", kinds=tuple(made), trivial=0.0, split="val", samples=CASES,
        groups=CASES, notes=(),
    )  # fmt: skip


def chosen(found: Recommendation) -> tuple[str, str]:
    assert found.chosen is not None
    return str(found.chosen.result.kind.attention), found.chosen.precision


SPEEDS = {"softmax": {"torch": 9.0, "float32": 6.0}, "kv": {"torch": 5.0, "float32": 3.0}}


def test_a_clear_winner_is_taken_though_it_is_slower() -> None:
    found = recommend(results_of({"softmax": 0.8, "kv": 0.6}, SPEEDS))
    assert chosen(found) == ("softmax", "float32")
    assert "best quality" in found.sentences[1]


def test_of_two_that_are_not_told_apart_the_faster_is_taken_and_the_possible_loss_is_said() -> None:
    found = recommend(results_of({"softmax": 0.802, "kv": 0.8}, SPEEDS))
    assert chosen(found) == ("kv", "float32")
    assert found.best is not None
    assert found.best.result.kind.attention == "softmax"
    assert found.loss is not None
    assert found.loss.low < 0 < found.loss.high
    assert f"up to {found.loss.high:.3f} may be lost" in found.sentences[1]
    assert "not prove" in found.sentences[1]


def test_limits_leave_out_what_is_too_slow() -> None:
    found = recommend(results_of({"softmax": 0.8, "kv": 0.6}, SPEEDS, Limits(latency_ms=4.0)))
    assert chosen(found) == ("kv", "float32")


def test_no_cell_meets_the_limits_and_each_limit_says_by_how_much() -> None:
    limits = Limits(latency_ms=2.0, memory_mb=200.0)
    found = recommend(results_of({"softmax": 0.8, "kv": 0.6}, SPEEDS, limits, memory_mb=150.0))
    assert found.chosen is None
    assert found.headline == "No cell meets the limits"
    assert "vit_tiny with kv in float32, takes 3 ms, 1.50 times the 2 ms" in found.sentences[0]
    assert "200 MB by itself is met" in found.sentences[1]
    assert "3 ms where 2 ms is allowed (1.50 times)" in found.sentences[2]


def test_what_is_not_measured_cannot_meet_a_limit() -> None:
    speeds = {"softmax": SPEEDS["softmax"]}
    found = recommend(results_of({"softmax": 0.6, "kv": 0.8}, speeds, Limits(latency_ms=7.0)))
    assert chosen(found) == ("softmax", "float32")
    assert any("Not measured" in sentence and "kv" in sentence for sentence in found.sentences)
    nothing = recommend(results_of({"kv": 0.8}, {}, Limits(latency_ms=7.0)))
    assert nothing.headline == "No cell is known to meet the limits"


def test_nothing_is_recommended_that_does_not_beat_the_trivial_answer() -> None:
    found = recommend(dataclasses.replace(results_of({"softmax": 0.6, "kv": 0.5}, SPEEDS), trivial=0.6))
    assert found.chosen is None
    assert "trivial" in found.headline


def test_eight_bits_are_taken_where_their_drop_may_be_chance_and_not_where_it_is_sure() -> None:
    speeds = {"softmax": {"torch": 9.0, "float32": 6.0, "int8": 2.0}}
    may_be, sure = Estimate(0.002, -0.001, 0.005), Estimate(0.02, 0.01, 0.03)
    assert chosen(recommend(results_of({"softmax": 0.8}, speeds, drops={"softmax": may_be}))) == ("softmax", "int8")
    assert chosen(recommend(results_of({"softmax": 0.8}, speeds, drops={"softmax": sure}))) == ("softmax", "float32")


def test_the_difference_of_two_cells_adds_what_8_bits_lose() -> None:
    drops = {"softmax": Estimate(0.01, 0.0, 0.02), "kv": Estimate(0.03, 0.0, 0.06)}
    speeds = {name: {**speed, "int8": 1.0} for name, speed in SPEEDS.items()}
    results = results_of({"softmax": 0.8, "kv": 0.7}, speeds, drops=drops)
    cells: dict[tuple[str, str], Candidate] = {
        (str(c.result.kind.attention), c.precision): c for c in candidates_of(results)
    }
    weights = results.weights()
    plain = difference_of(results, cells["softmax", "torch"], cells["kv", "float32"], weights)
    both = difference_of(results, cells["softmax", "int8"], cells["kv", "int8"], weights)
    assert plain is not None
    assert both is not None
    assert plain.value == pytest.approx(0.1)
    assert both.value == pytest.approx(0.1 - 0.01 + 0.03)
    assert both.high - both.value == pytest.approx(np.hypot(np.hypot(plain.high - plain.value, 0.01), 0.03))
    same = difference_of(results, cells["kv", "float32"], cells["kv", "int8"], weights)
    assert same == Estimate(pytest.approx(0.03), pytest.approx(0.0), pytest.approx(0.06))  # type: ignore[arg-type]


def test_before_any_training_nothing_is_said() -> None:
    plan = plan_of([kind("softmax")])
    empty = Results(
        plan=plan, metric="auroc", label="AUROC", kinds=(), trivial=None, split=None, samples=0, groups=0, notes=()
    )
    assert recommend(empty).headline == "Nothing to recommend yet"
