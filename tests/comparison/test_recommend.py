"""Recommendations from hand-made results."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.comparison.deployments import Deployment, compare_deployments, list_deployments
from gossamer.comparison.folder import STAGES, CompareFolder, Trial
from gossamer.comparison.outcome import NOT_MET
from gossamer.comparison.paired_tests import average_over_seeds, draw_weights
from gossamer.comparison.recommend import Recommendation, recommend_deployment
from gossamer.comparison.results import CollectedResults, VariantResult, collect_results
from gossamer.comparison.scores import MeanScores, Scores
from gossamer.comparison.trial_results import TrialResult
from gossamer.evaluation.bootstrap import Estimate
from gossamer.files import write_json
from gossamer.variants import CostLimits
from made_comparison import create_costs, create_plan, variant, write_int8, write_run, write_states

CASES = 40
NOISE = np.random.default_rng(0).normal(size=(9, CASES, 2)) * 0.05


def create_results(
    means: dict[str, float],
    latencies: dict[str, dict[str, float]],
    limits: CostLimits = CostLimits(),
    drops: dict[str, Estimate] | None = None,
    **more: Any,
) -> CollectedResults:
    """Variants with the given mean Dice, noise of their own, and the given latencies."""
    variants = [variant(name) for name in means]
    plan = create_plan(variants, seeds=(0,), task="segment", limits=limits)
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
                costs=None if latency is None else create_costs(latency, **more),
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


def test_takes_clear_winner_though_slower() -> None:
    found = recommend_deployment(create_results({"softmax": 0.8, "kv": 0.6}, SPEEDS))
    assert chosen(found) == ("softmax", "float32")
    assert found.best is found.chosen
    assert found.loss is None


def test_takes_faster_of_two_tied_and_states_possible_loss() -> None:
    found = recommend_deployment(create_results({"softmax": 0.802, "kv": 0.8}, SPEEDS))
    assert chosen(found) == ("kv", "float32")
    assert found.best is not None
    assert found.best.result.variant.attention == "softmax"
    assert found.loss is not None
    assert found.loss.low < 0 < found.loss.high
    assert f"up to {found.loss.high:.3f}" in found.sentences[1]


def test_limits_exclude_slow_networks() -> None:
    found = recommend_deployment(create_results({"softmax": 0.8, "kv": 0.6}, SPEEDS, CostLimits(latency_ms=4.0)))
    assert chosen(found) == ("kv", "float32")


def test_distance_to_each_limit_if_none_is_met() -> None:
    limits = CostLimits(latency_ms=2.0, memory_mb=200.0)
    found = recommend_deployment(create_results({"softmax": 0.8, "kv": 0.6}, SPEEDS, limits, memory_mb=150.0))
    assert found.chosen is None
    assert found.best is None
    latency, memory, closest = found.sentences
    assert "vit_tiny with kv in float32" in latency
    assert {"3 ms", "1.50 times", "2 ms"} <= set(re.findall(r"[\d.]+ (?:ms|times)", latency))
    assert "200 MB" in memory
    assert {"3 ms", "1.50 times", "2 ms"} == set(re.findall(r"[\d.]+ (?:ms|times)", closest))


def test_unmeasured_costs_do_not_meet_limits() -> None:
    speeds = {"softmax": SPEEDS["softmax"]}
    found = recommend_deployment(create_results({"softmax": 0.6, "kv": 0.8}, speeds, CostLimits(latency_ms=7.0)))
    assert chosen(found) == ("softmax", "float32")
    assert "vit_tiny with kv in PyTorch" in found.sentences[-1]
    nothing = recommend_deployment(create_results({"kv": 0.8}, {}, CostLimits(latency_ms=7.0)))
    assert nothing.chosen is None
    assert nothing.best is None
    assert len(nothing.sentences) == 1


def test_recommends_nothing_below_the_trivial_answer() -> None:
    found = recommend_deployment(dataclasses.replace(create_results({"softmax": 0.6, "kv": 0.5}, SPEEDS), trivial=0.6))
    assert found.chosen is None
    assert found.best is not None


def test_takes_int8_unless_its_loss_is_significant() -> None:
    speeds = {"softmax": {"torch": 9.0, "float32": 6.0, "int8": 2.0}}
    may_be, sure = Estimate(0.002, -0.001, 0.005), Estimate(0.02, 0.01, 0.03)
    assert chosen(recommend_deployment(create_results({"softmax": 0.8}, speeds, drops={"softmax": may_be}))) == (
        "softmax",
        "int8",
    )
    assert chosen(recommend_deployment(create_results({"softmax": 0.8}, speeds, drops={"softmax": sure}))) == (
        "softmax",
        "float32",
    )


def test_difference_of_deployments_adds_losses_by_int8() -> None:
    drops = {"softmax": Estimate(0.01, 0.0, 0.02), "kv": Estimate(0.03, 0.0, 0.06)}
    speeds = {name: {**speed, "int8": 1.0} for name, speed in SPEEDS.items()}
    results = create_results({"softmax": 0.8, "kv": 0.7}, speeds, drops=drops)
    deployments: dict[tuple[str, str], Deployment] = {
        (str(each.result.variant.attention), each.precision): each for each in list_deployments(results)
    }
    weights = results.draw_weights()
    plain = compare_deployments(results, deployments["softmax", "torch"], deployments["kv", "float32"], weights)
    both = compare_deployments(results, deployments["softmax", "int8"], deployments["kv", "int8"], weights)
    assert plain is not None
    assert both is not None
    assert plain.value == pytest.approx(0.1)
    assert both.value == pytest.approx(0.1 - 0.01 + 0.03)
    assert both.high - both.value == pytest.approx(np.hypot(np.hypot(plain.high - plain.value, 0.01), 0.03))
    same = compare_deployments(results, deployments["kv", "float32"], deployments["kv", "int8"], weights)
    assert same == Estimate(pytest.approx(0.03), pytest.approx(0.0), pytest.approx(0.06))  # type: ignore[arg-type]


def test_recommends_fastest_of_tied_networks_in_a_folder(
    tmp_path: Path,
) -> None:
    folder = CompareFolder(tmp_path / "made")
    variants = [variant("softmax"), variant("kv"), variant("sima"), variant("local")]
    plan = create_plan(variants, seeds=(0,))
    generator = np.random.default_rng(3)
    truth, noise = np.arange(120) % 2, generator.normal(size=120)
    # kv is as good as softmax and faster; sima is far worse and the fastest; local is no better than chance.
    logits = {"softmax": 2.0, "kv": 1.98, "sima": 0.9, "local": 0.0}
    speeds: dict[str, dict[str, float]] = {
        "softmax": {"torch": 9.0, "float32": 6.0, "int8": 3.5}, "kv": {"torch": 7.0, "float32": 4.0},
        "sima": {"torch": 3.0, "float32": 2.0, "int8": 1.0}, "local": {"torch": 2.0, "float32": 1.0, "int8": 0.5},
    }  # fmt: skip
    folder.costs_path(variants[0]).parent.mkdir(parents=True)
    for trial in plan.trials:
        name = str(trial.variant.attention)
        own = noise + 0.4 * generator.normal(size=120)
        scores = np.round(1 / (1 + np.exp(-logits[name] * truth - own)), 6)
        won = float((scores[truth == 1][:, None] > scores[truth == 0][None]).mean())
        write_run(folder, trial, scores, truth, [f"p{number // 2}" for number in range(120)], won)
        if name == "kv":
            write_states(folder, trial, "train", "export", failed=f"quantize: {NOT_MET}: 0.02 is above 0.005")
        else:
            write_states(folder, trial, "train", "export", "quantize")
            write_int8(folder, trial, (0.05, 0.03, 0.07))  # sure
        write_json(folder.costs_path(trial.variant), create_costs(speeds[name]).to_json())
    results = collect_results(folder, plan)
    qualities = [result.quality for result in results.variants]
    assert qualities[3] is not None
    assert qualities[3].low < 0.5 < min(quality.low for quality in qualities[:3] if quality is not None)
    found = recommend_deployment(results)
    assert chosen(found) == ("kv", "float32")
    assert found.best is not None
    assert str(found.best.result.variant.attention) == "softmax"
    assert {(str(each.result.variant.attention), each.precision) for each in found.tied} == {
        ("softmax", "torch"), ("softmax", "float32"), ("kv", "torch"),
    }  # fmt: skip
    limited = recommend_deployment(
        dataclasses.replace(results, plan=create_plan(variants, seeds=(0,), limits=CostLimits(latency_ms=1.5)))
    )
    assert chosen(limited) == ("sima", "int8")  # local is faster and not shown to beat the trivial answer


def test_single_patient_gives_no_recommendation() -> None:
    made = create_results({"softmax": 0.6, "kv": 0.8}, SPEEDS)
    alone = [
        dataclasses.replace(
            result,
            trials=tuple(dataclasses.replace(trial, scores=_first_case(trial.scores)) for trial in result.trials),
            quality=None if result.quality is None else Estimate(result.quality.value, math.nan, math.nan),
        )
        for result in made.variants
    ]
    found = recommend_deployment(dataclasses.replace(made, variants=tuple(alone), split="test", samples=1, groups=1))
    assert found.chosen is None
    assert found.best is not None
    assert str(found.best.result.variant.attention) == "kv"


def _first_case(scores: Scores | None) -> MeanScores:
    assert scores is not None
    return MeanScores(scores.ids[:1], scores.groups[:1], scores.outputs[:1], scores.truth[:1])


def test_no_recommendation_before_any_training() -> None:
    plan = create_plan([variant("softmax")])
    empty = CollectedResults(
        plan=plan, metric="auroc", label="AUROC", variants=(), trivial=None, split=None, samples=0, groups=0, notes=()
    )
    found = recommend_deployment(empty)
    assert found.chosen is found.best is None
