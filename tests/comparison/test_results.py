"""Results of a comparison's folder, finished or not, against figures computed by hand."""

from __future__ import annotations

import csv
import io
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.comparison.compare_plan import RefusedVariant, read_plan, write_plan
from gossamer.comparison.folder import CompareFolder, Trial
from gossamer.comparison.paired_tests import correct_holm
from gossamer.comparison.results import CollectedResults, collect_results
from gossamer.comparison.results_table import build_table
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import write_json
from gossamer.inference.decisions import to_csv
from gossamer.variants import CostLimits
from made_comparison import create_costs, create_plan, variant, write_int8, write_masks, write_run, write_states

TRUTH = np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 1])
PATIENTS = ["a", "a", "b", "b", "c", "d", "", "", "e", "e"]


def auroc(scores: np.ndarray, truth: np.ndarray = TRUTH) -> float:
    """All pairs."""
    positive, negative = scores[truth == 1][:, None], scores[truth == 0][None]
    return float(((positive > negative) + (positive == negative) / 2).mean())


def scores_of(seed: int, strength: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=len(TRUTH))
    return np.round(1 / (1 + np.exp(-(strength * TRUTH + noise))), 6)


def train(folder: CompareFolder, trial: Trial, strength: float, *stages: str) -> float:
    scores = scores_of(10 * trial.seed + int(10 * strength), strength)
    value = auroc(scores)
    write_run(folder, trial, scores, TRUTH, PATIENTS, value)
    write_states(folder, trial, "train", *stages)
    return value


def by_name(results: CollectedResults) -> dict[str, int]:
    return {str(result.variant.attention): number for number, result in enumerate(results.variants)}


@pytest.fixture
def folder(tmp_path: Path) -> CompareFolder:
    return CompareFolder(tmp_path / "comparison")


def test_plan_is_read_as_it_was_written(folder: CompareFolder) -> None:
    refused = (RefusedVariant(model="resnet_18", attention="kv", reason="has no attention"),)
    plan = create_plan(
        [variant("softmax"), variant(None, "resnet_18")], refused=refused, limits=CostLimits(latency_ms=5.0)
    )
    folder.path.mkdir()
    write_plan(folder, plan)
    assert read_plan(folder.plan_path) == plan
    assert [(trial.seed, trial.variant.model) for trial in plan.trials[:3]] == [
        (0, "vit_tiny"),
        (0, "resnet_18"),
        (1, "vit_tiny"),
    ]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"variants": ()}, "variants"),
        ({"variants": (variant("kv"), variant("kv"))}, "variants"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_an_impossible_plan_is_refused(change: dict[str, Any], where: str) -> None:
    fields: dict[str, Any] = {"variants": (variant("kv"),), **change}
    with pytest.raises(GossamerError) as error:
        create_plan(fields.pop("variants"), **fields)
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, where)


def test_means_differences_and_correction_over_seeds(folder: CompareFolder) -> None:
    variants = [variant("softmax"), variant("kv"), variant("sima"), variant(None, "resnet_18")]
    plan = create_plan(variants, seeds=(0, 1))
    values = {
        (each.attention, seed): train(folder, Trial(variant=each, seed=seed), strength)
        for each, strength in zip(variants, (1.5, 0.9, 0.2, 1.0), strict=True)
        for seed in plan.training.seeds
    }
    results = collect_results(folder, plan)
    softmax, kv, sima, resnet = results.variants
    assert kv.quality is not None
    assert kv.quality.value == pytest.approx((values["kv", 0] + values["kv", 1]) / 2, abs=1e-12)
    assert kv.versus is not None
    assert sima.versus is not None
    assert kv.versus.seeds == pytest.approx([values["kv", s] - values["softmax", s] for s in (0, 1)])
    assert kv.versus.estimate.value == pytest.approx(np.mean(kv.versus.seeds))
    assert kv.versus.estimate.low <= kv.versus.estimate.value <= kv.versus.estimate.high
    assert [kv.versus.p_holm, sima.versus.p_holm] == correct_holm([kv.versus.p or 0, sima.versus.p or 0])
    assert softmax.versus is None
    assert resnet.versus is None
    assert (results.comparisons, results.samples, results.groups, results.trivial) == (2, 10, 7, 0.5)


def test_unfinished_comparison_has_results_of_what_is_done(folder: CompareFolder) -> None:
    variants = [variant("softmax"), variant("kv"), variant("sima"), variant("local")]
    plan = create_plan(variants, seeds=(0, 1))
    values = [train(folder, Trial(variant=variants[0], seed=seed), 1.5, "export") for seed in (0, 1)]
    second = train(folder, Trial(variant=variants[1], seed=1), 0.5)
    write_states(folder, Trial(variant=variants[2], seed=0), failed="train: the loss is no number")
    folder.run_path(Trial(variant=variants[3], seed=0)).mkdir(parents=True)  # started, and killed before it ended
    results = collect_results(folder, plan)
    softmax, kv, sima, local = results.variants
    assert softmax.quality is not None
    assert softmax.quality.value == pytest.approx(np.mean(values))
    assert softmax.quality_in("float32") == softmax.quality.value
    assert softmax.quality_in("int8") is None
    assert kv.versus is not None
    assert kv.versus.seeds == pytest.approx([second - values[1]])  # the seed that both have
    assert kv.quality_in("float32") is None
    assert sima.quality is None
    assert sima.trials[0].failed == "train: the loss is no number"
    assert [trial.state for trial in local.trials] == ["waiting", "waiting"]
    assert local.cost("latency_p50", "torch").how == "unavailable"
    assert not results.complete


def test_empty_folder_has_no_results(folder: CompareFolder) -> None:
    results = collect_results(folder, create_plan([variant("softmax")]))
    assert results.trivial is None
    assert results.variants[0].state == "0 of 2 done"


def test_trial_on_other_cases_is_not_compared(folder: CompareFolder) -> None:
    plan = create_plan([variant("softmax"), variant("kv")], seeds=(0,))
    train(folder, plan.trials[0], 1.0)
    scores = scores_of(3, 1.0)[:8]
    write_run(folder, plan.trials[1], scores, TRUTH[:8], PATIENTS[:8], auroc(scores, TRUTH[:8]))
    write_states(folder, plan.trials[1], "train")
    kv = collect_results(folder, plan).variants[1]
    assert kv.quality is None
    assert "other cases" in (kv.trials[0].failed or "")


@pytest.mark.parametrize("damage", ["table", "summary", "value"])
def test_unreadable_trial_has_failed_and_others_remain(folder: CompareFolder, damage: str) -> None:
    plan = create_plan([variant("softmax"), variant("kv")], seeds=(0,))
    for trial in plan.trials:
        train(folder, trial, 1.0)
    run = folder.run_path(plan.trials[1])
    if damage == "table":
        (run / "predictions.csv").write_text("id,truth\nimage 0,benign\n")
    elif damage == "summary":
        write_json(run / "summary.json", {"metrics": {}})
    else:
        text = (run / "summary.json").read_text()
        (run / "summary.json").write_text(text.replace('"value": ', '"value": 0.3'))
    softmax, kv = collect_results(folder, plan).variants
    assert softmax.quality is not None
    assert kv.quality is None
    assert (kv.trials[0].failed or "").startswith("cannot be read")


def test_loss_by_int8_is_averaged_over_seeds(folder: CompareFolder) -> None:
    plan = create_plan([variant("softmax")], seeds=(0, 1))
    for trial, drop in zip(plan.trials, [(0.01, 0.0, 0.02), (0.03, -0.02, 0.08)], strict=True):
        train(folder, trial, 1.0, "export", "quantize")
        write_int8(folder, trial, drop)
    (softmax,) = collect_results(folder, plan).variants
    assert softmax.drop is not None
    assert softmax.quality is not None
    assert (softmax.drop.value, softmax.drop.low, softmax.drop.high) == pytest.approx((0.02, -0.01, 0.05))
    assert softmax.quality_in("int8") == pytest.approx(softmax.quality.value - 0.02)
    assert softmax.state == "done"


def test_precisions_that_were_not_requested_have_no_line(folder: CompareFolder) -> None:
    plan = create_plan(
        [variant("softmax"), variant("kv")], seeds=(0, 1), precisions=("torch", "float32"), bundle_seeds=(0,)
    )
    train(folder, plan.trials[0], 1.0, "export")
    train(folder, plan.trials[2], 1.2)
    lines = [line[1:5] for line in build_table(collect_results(folder, plan))[1:]]
    assert lines == [
        ["softmax", "0", "torch", "done"], ["softmax", "0", "float32", "done"], ["softmax", "1", "torch", "done"],
        ["kv", "0", "torch", "waiting"], ["kv", "0", "float32", "waiting"], ["kv", "1", "torch", "waiting"],
    ]  # fmt: skip


def test_lost_run_invalidates_its_bundles(folder: CompareFolder) -> None:
    plan = create_plan([variant("softmax"), variant("kv")], seeds=(0,))
    for trial in plan.trials:
        train(folder, trial, 1.0, "export", "quantize")
        write_int8(folder, trial, (0.0, -0.1, 0.1))
    shutil.rmtree(folder.run_path(plan.trials[1]))
    softmax, kv = collect_results(folder, plan).variants
    assert (softmax.state, kv.state) == ("done", "0 of 1 done")
    assert kv.trials[0].stages == ()
    assert kv.drop is kv.quality is None


@pytest.mark.parametrize(("patient", "note"), [("a", "no intervals and no tests"), ("b", "intervals are wide")])
def test_few_patients_are_noted(folder: CompareFolder, patient: str, note: str) -> None:
    plan = create_plan([variant("softmax"), variant("kv")], seeds=(0,))
    for trial, strength in zip(plan.trials, (1.0, 0.4), strict=True):
        scores = scores_of(4, strength)
        write_run(folder, trial, scores, TRUTH, ["a"] * 9 + [patient], auroc(scores))
        write_states(folder, trial, "train")
    results = collect_results(folder, plan)
    assert results.notes[0].startswith(note)
    assert results.unit == "patient"
    versus = results.variants[1].versus
    assert versus is not None
    assert (versus.p is None) == (versus.p_holm is None) == (results.comparisons == 0) == (patient == "a")


def test_masks_are_compared_by_dice_of_defined_classes(folder: CompareFolder) -> None:
    plan = create_plan([variant("softmax"), variant("kv")], seeds=(0,), task="segment", classes=("organ", "tumour"))
    dice = np.array([[0.9, 0.5], [0.8, math.nan], [0.7, 0.7]])
    for trial, shift in zip(plan.trials, (0.0, 0.1), strict=True):
        write_masks(folder, trial, dice - shift, float(np.mean([0.8, 0.6]) - shift))
        write_states(folder, trial, "train")
    results = collect_results(folder, plan)
    assert [result.quality.value for result in results.variants if result.quality] == pytest.approx([0.7, 0.6])
    versus = results.variants[1].versus
    assert versus is not None
    assert (versus.estimate.low, versus.estimate.high) == pytest.approx((-0.1, -0.1))
    assert versus.p == pytest.approx(2 / 8, abs=0.03)  # three cases that all agree
    assert any("validation split" in note for note in results.notes)


def test_costs_and_exponents_come_from_measurements(folder: CompareFolder) -> None:
    plan = create_plan([variant("softmax")], seeds=(0,))
    folder.costs_path(variant("softmax")).parent.mkdir(parents=True)
    write_json(folder.costs_path(variant("softmax")), create_costs({"torch": 8.0, "float32": 4.0}).to_json())
    (softmax,) = collect_results(folder, plan).variants
    assert softmax.cost("latency_p50", "float32").value == 4.0
    assert softmax.cost("latency_p50", "int8").how == "unavailable"
    assert softmax.exponents() == pytest.approx({"macs": 1.2, "latency": 1.0})


def test_table_has_a_line_for_each_trial_and_precision(folder: CompareFolder) -> None:
    refused = (RefusedVariant(model="resnet_18", attention="kv", reason="has no attention, and a comma"),)
    plan = create_plan([variant("softmax"), variant("kv")], seeds=(4,), refused=refused)
    value = train(folder, plan.trials[0], 1.0, "export")
    write_states(folder, plan.trials[0], failed="quantize: no scheme")
    folder.costs_path(variant("softmax")).parent.mkdir(parents=True)
    write_json(folder.costs_path(variant("softmax")), create_costs({"torch": 8.0, "float32": 4.0}).to_json())
    text = to_csv(build_table(collect_results(folder, plan)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["attention"], r["precision"], r["state"]) for r in rows] == [
        ("softmax", "torch", "done"), ("softmax", "float32", "done"), ("softmax", "int8", "failed"),
        ("kv", "torch", "waiting"), ("kv", "float32", "waiting"), ("kv", "int8", "waiting"), ("kv", "", "refused"),
    ]  # fmt: skip
    assert float(rows[1]["auroc"]) == pytest.approx(value, abs=1e-6)
    assert (rows[1]["latency_p50_ms"], rows[1]["file_mb"], rows[1]["training_s"]) == ("4", "22", "244.0")
    assert (rows[2]["auroc"], rows[2]["reason"], rows[2]["latency_p50_ms"]) == ("", "quantize: no scheme", "")
    assert rows[6]["reason"] == "has no attention, and a comma"
