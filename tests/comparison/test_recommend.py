"""What is recommended, of results made by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.comparison.folder import STAGES, CompareFolder, Trial
from gossamer.comparison.paired_tests import average_over_seeds, draw_weights
from gossamer.comparison.recommend import Deployment, Recommendation, compare_deployments, list_deployments, recommend
from gossamer.comparison.results import CollectedResults, VariantResult, collect_results
from gossamer.comparison.run import NO_RUNG
from gossamer.comparison.scores import MeanScores, Scores
from gossamer.comparison.trial_results import TrialResult
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import write_json
from gossamer.variants import CostLimits
from made_comparison import measured, plan_of, variant, write_int8, write_run, write_states

CASES = 40
NOISE = np.random.default_rng(0).normal(size=(9, CASES, 2)) * 0.05


def results_of(
    means: dict[str, float],
    latencies: dict[str, dict[str, float]],
    limits: CostLimits = CostLimits(),
    drops: dict[str, Estimate] | None = None,
    **more: Any,
) -> CollectedResults:
    """Variants with the given mean Dice, noise of their own, and the given latencies."""
    variants = [variant(name) for name in means]
    plan = plan_of(variants, seeds=(0,), task="segment", limits=limits)
    made = []
    ids = tuple(f"case {k}" for k in range(CASES))
    for number, (each, mean) in enumerate(zip(variants, means.values(), strict=True)):
        dice = np.clip(mean + NOISE[number] - NOISE[number].mean(), 0, 1)
        scores = MeanScores(ids, ids, dice, np.ones_like(dice, bool))
        drop = (drops or {}).get(str(each.attention))
        trial = TrialResult(
            trial=Trial(variant=each, seed=0),
            stages=STAGES if drop else STAGES[:2],
            failed=None,
            scores=scores,
            drop=drop,
        )
        latency = latencies.get(str(each.attention))
        made.append(
            VariantResult(
                variant=each,
                number=number + 1,
                trials=(trial,),
                quality=average_over_seeds([scores], draw_weights(ids)),
                drop=drop,
                measured=None if latency is None else measured(latency, **more),
                baseline=None,
                versus=None,
            )
        )
    return CollectedResults(
        plan=plan, metric="dice", label="Dice", variants=tuple(made), trivial=0.0, split="val", samples=CASES,
        groups=CASES, notes=(),
    )  # fmt: skip


def chosen(found: Recommendation) -> tuple[str, str]:
    assert found.chosen is not None
    return str(found.chosen.result.variant.attention), found.chosen.precision


SPEEDS = {"softmax": {"torch": 9.0, "float32": 6.0}, "kv": {"torch": 5.0, "float32": 3.0}}


def test_a_clear_winner_is_taken_though_it_is_slower() -> None:
    found = recommend(results_of({"softmax": 0.8, "kv": 0.6}, SPEEDS))
    assert chosen(found) == ("softmax", "float32")
    assert "best quality" in found.sentences[1]


def test_of_two_that_are_not_told_apart_the_faster_is_taken_and_the_possible_loss_is_said() -> None:
    found = recommend(results_of({"softmax": 0.802, "kv": 0.8}, SPEEDS))
    assert chosen(found) == ("kv", "float32")
    assert found.best is not None
    assert found.best.result.variant.attention == "softmax"
    assert found.loss is not None
    assert found.loss.low < 0 < found.loss.high
    assert f"up to {found.loss.high:.3f} may be lost" in found.sentences[1]
    assert "not prove" in found.sentences[1]


def test_limits_leave_out_what_is_too_slow() -> None:
    found = recommend(results_of({"softmax": 0.8, "kv": 0.6}, SPEEDS, CostLimits(latency_ms=4.0)))
    assert chosen(found) == ("kv", "float32")


def test_no_trial_meets_the_limits_and_each_limit_says_by_how_much() -> None:
    limits = CostLimits(latency_ms=2.0, memory_mb=200.0)
    found = recommend(results_of({"softmax": 0.8, "kv": 0.6}, SPEEDS, limits, memory_mb=150.0))
    assert found.chosen is None
    assert found.headline == "No trial meets the limits"
    assert "vit_tiny with kv in float32, takes 3 ms, 1.50 times the 2 ms" in found.sentences[0]
    assert "200 MB by itself is met" in found.sentences[1]
    assert "3 ms where 2 ms is allowed (1.50 times)" in found.sentences[2]


def test_what_is_not_measured_cannot_meet_a_limit() -> None:
    speeds = {"softmax": SPEEDS["softmax"]}
    found = recommend(results_of({"softmax": 0.6, "kv": 0.8}, speeds, CostLimits(latency_ms=7.0)))
    assert chosen(found) == ("softmax", "float32")
    assert any("Not measured" in sentence and "kv" in sentence for sentence in found.sentences)
    nothing = recommend(results_of({"kv": 0.8}, {}, CostLimits(latency_ms=7.0)))
    assert nothing.headline == "No trial is known to meet the limits"


def test_nothing_is_recommended_that_does_not_beat_the_trivial_answer() -> None:
    found = recommend(dataclasses.replace(results_of({"softmax": 0.6, "kv": 0.5}, SPEEDS), trivial=0.6))
    assert found.chosen is None
    assert "trivial" in found.headline


def test_eight_bits_are_taken_where_their_drop_may_be_chance_and_not_where_it_is_sure() -> None:
    speeds = {"softmax": {"torch": 9.0, "float32": 6.0, "int8": 2.0}}
    may_be, sure = Estimate(0.002, -0.001, 0.005), Estimate(0.02, 0.01, 0.03)
    assert chosen(recommend(results_of({"softmax": 0.8}, speeds, drops={"softmax": may_be}))) == ("softmax", "int8")
    assert chosen(recommend(results_of({"softmax": 0.8}, speeds, drops={"softmax": sure}))) == ("softmax", "float32")


def test_the_difference_of_two_trials_adds_what_8_bits_lose() -> None:
    drops = {"softmax": Estimate(0.01, 0.0, 0.02), "kv": Estimate(0.03, 0.0, 0.06)}
    speeds = {name: {**speed, "int8": 1.0} for name, speed in SPEEDS.items()}
    results = results_of({"softmax": 0.8, "kv": 0.7}, speeds, drops=drops)
    trials: dict[tuple[str, str], Deployment] = {
        (str(c.result.variant.attention), c.precision): c for c in list_deployments(results)
    }
    weights = results.weights()
    plain = compare_deployments(results, trials["softmax", "torch"], trials["kv", "float32"], weights)
    both = compare_deployments(results, trials["softmax", "int8"], trials["kv", "int8"], weights)
    assert plain is not None
    assert both is not None
    assert plain.value == pytest.approx(0.1)
    assert both.value == pytest.approx(0.1 - 0.01 + 0.03)
    assert both.high - both.value == pytest.approx(np.hypot(np.hypot(plain.high - plain.value, 0.01), 0.03))
    same = compare_deployments(results, trials["kv", "float32"], trials["kv", "int8"], weights)
    assert same == Estimate(pytest.approx(0.03), pytest.approx(0.0), pytest.approx(0.06))  # type: ignore[arg-type]


def test_of_a_folder_the_fastest_not_told_from_the_best_is_taken_and_what_8_bits_cost_too_much_is_not(
    tmp_path: Path,
) -> None:
    folder = CompareFolder(tmp_path / "made")
    variants = [variant("softmax"), variant("kv"), variant("sima"), variant("local")]
    plan = plan_of(variants, seeds=(0,), options={"bundle_seeds": [0]})
    generator = np.random.default_rng(3)
    truth, noise = np.arange(120) % 2, generator.normal(size=120)
    # kv is as good as softmax and faster; sima is far worse and the fastest; local is no better than chance.
    logits = {"softmax": 2.0, "kv": 1.98, "sima": 0.9, "local": 0.0}
    speeds: dict[str, dict[str, float]] = {
        "softmax": {"torch": 9.0, "float32": 6.0, "int8": 3.5}, "kv": {"torch": 7.0, "float32": 4.0},
        "sima": {"torch": 3.0, "float32": 2.0, "int8": 1.0}, "local": {"torch": 2.0, "float32": 1.0, "int8": 0.5},
    }  # fmt: skip
    folder.measured(variants[0]).parent.mkdir(parents=True)
    for trial in plan.trials:
        name = str(trial.variant.attention)
        own = noise + 0.4 * generator.normal(size=120)
        scores = np.round(1 / (1 + np.exp(-logits[name] * truth - own)), 6)
        won = float((scores[truth == 1][:, None] > scores[truth == 0][None]).mean())
        write_run(folder, trial, scores, truth, [f"p{number // 2}" for number in range(120)], won)
        if name == "kv":
            write_states(folder, trial, "train", "export", failed=f"quantize: {NO_RUNG}: 0.02 is above 0.005")
        else:
            write_states(folder, trial, "train", "export", "quantize")
            write_int8(folder, trial, (0.05, 0.03, 0.07))  # sure
        write_json(folder.measured(trial.variant), measured(speeds[name]).to_json())
    results = collect_results(folder, plan)
    qualities = [result.quality for result in results.variants]
    assert qualities[3] is not None
    assert qualities[3].low < 0.5 < min(quality.low for quality in qualities[:3] if quality is not None)
    found = recommend(results)
    assert chosen(found) == ("kv", "float32")
    assert found.best is not None
    assert str(found.best.result.variant.attention) == "softmax"
    assert {(str(c.result.variant.attention), c.precision) for c in found.alike} == {
        ("softmax", "torch"), ("softmax", "float32"), ("kv", "torch"),
    }  # fmt: skip
    limited = recommend(dataclasses.replace(results, plan=dataclasses.replace(plan, limits=CostLimits(latency_ms=1.5))))
    assert chosen(limited) == ("sima", "int8")  # local is faster and not shown to beat the trivial answer


def test_one_patient_gives_no_recommendation_and_says_why() -> None:
    made = results_of({"softmax": 0.6, "kv": 0.8}, SPEEDS)
    alone = [
        dataclasses.replace(
            result,
            trials=tuple(dataclasses.replace(c, scores=_first_case(c.scores)) for c in result.trials),
            quality=None if result.quality is None else Estimate(result.quality.value, math.nan, math.nan),
        )
        for result in made.variants
    ]
    found = recommend(dataclasses.replace(made, variants=tuple(alone), split="test", samples=1, groups=1))
    assert found.headline == "No recommendation: 1 test case gives no interval"
    assert found.chosen is None
    assert found.best is not None
    assert str(found.best.result.variant.attention) == "kv"
    assert "longer training does not change that" in found.sentences[0]


def _first_case(scores: Scores | None) -> MeanScores:
    assert scores is not None
    return MeanScores(scores.ids[:1], scores.groups[:1], scores.outputs[:1], scores.truth[:1])


def test_before_any_training_nothing_is_said() -> None:
    plan = plan_of([variant("softmax")])
    empty = CollectedResults(
        plan=plan, metric="auroc", label="AUROC", variants=(), trivial=None, split=None, samples=0, groups=0, notes=()
    )
    assert recommend(empty).headline == "Nothing to recommend yet"
