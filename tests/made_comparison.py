"""A hand-made folder of a comparison, with plausible numbers of networks that were never trained."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gossamer.comparison.compare_plan import (
    ComparePlan,
    DataSummary,
    RefusedVariant,
    TrainingForecast,
    TrainingSummary,
    write_plan,
)
from gossamer.comparison.folder import CompareFolder, CostAtSize, Trial, TrialState, VariantCosts
from gossamer.comparison.request import CompareRequest
from gossamer.files import write_json
from gossamer.profiling.figure import Figure
from gossamer.task import TaskName
from gossamer.variants import PRECISIONS, CostLimits, RuntimePrecision, Variant

CLASSES = ("benign", "malignant")


def create_plan(
    variants: Sequence[Variant],
    *,
    seeds: Sequence[int] = (0, 1),
    limits: CostLimits = CostLimits(),
    precisions: Sequence[RuntimePrecision] = PRECISIONS,
    bundle_seeds: Sequence[int] | None = None,
    task: TaskName = "classify",
    classes: Sequence[str] = CLASSES,
    epochs: int = 12,
    refused: Sequence[RefusedVariant] = (),
) -> ComparePlan:
    """Return a plan: of a classification, with bundles of all seeds, by default."""
    forecast = TrainingForecast(step_s=0.1, epoch_s=2.0, train_s=1.0, memory_bytes=None, parameters=7)
    return ComparePlan(
        request=CompareRequest(
            data="scans.npz",
            models=("vit_tiny",),
            seeds=len(seeds),
            budget_minutes=6.0,
            precisions=tuple(precisions),
            threads=2,
            limits=limits,
        ),
        data=DataSummary(source="scans.npz", task=task, classes=tuple(classes), fingerprint="f00d"),
        training=TrainingSummary(
            seeds=tuple(seeds),
            bundle_seeds=tuple(seeds if bundle_seeds is None else bundle_seeds),
            epochs=epochs,
            image_size=(24, 28),
            batch_size=5,
            precision="float32",
        ),
        variants=tuple(variants),
        refused=tuple(refused),
        forecasts={each.key: forecast for each in variants},
        machine={"processor": "A processor", "usable_cpus": 2},
        command="gossamer compare scans.npz --models vit_tiny --out comparison",
    )


def variant(attention: str | None, model: str = "vit_tiny") -> Variant:
    """Return a variant."""
    return Variant(model=model, attention=attention)


def write_states(folder: CompareFolder, trial: Trial, *stages: str, failed: str | None = None) -> None:
    """Write that stages succeeded; ``failed`` is ``"stage: reason"``."""
    folder.trial_path(trial).mkdir(parents=True, exist_ok=True)
    for stage in stages:
        folder.write_state(trial, TrialState(stage=stage, failed=None, seconds=60.0))  # type: ignore[arg-type]
        if stage == "export":
            folder.bundle_path(trial, "float32").mkdir()
            (folder.bundle_path(trial, "float32") / "manifest.json").touch()
    if failed:
        stage, reason = failed.split(": ", 1)
        folder.write_state(trial, TrialState(stage=stage, failed=reason, seconds=3.0))  # type: ignore[arg-type]


def write_run(
    folder: CompareFolder, trial: Trial, scores: np.ndarray, truth: np.ndarray, patients: Sequence[str], auroc: float
) -> None:
    """Write the output of a trained trial: the probability of the second class, and its AUROC."""
    run = folder.run_path(trial)
    run.mkdir(parents=True)
    with (run / "predictions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "patient", "split", "truth", "prediction", "correct", *(f"p({c})" for c in CLASSES)])
        for number, (score, positive, patient) in enumerate(zip(scores, truth, patients, strict=True)):
            said = [CLASSES[int(positive)], CLASSES[int(score > 0.5)], "true", f"{1 - score:.6f}", f"{score:.6f}"]
            table.writerow([f"image {number}", patient, "test", *said])
    summary = {
        "split": "test",
        "metrics": {"auroc": {"value": auroc, "low": auroc - 0.1, "high": min(1.0, auroc + 0.1)}},
        "trivial": {"auroc": 0.5},
        "labels": {CLASSES[1]: {}},
        "training": {"epochs": 12, "best_epoch": 9, "seconds": 240.0 + trial.seed},
    }
    write_json(run / "summary.json", summary)


def write_masks(folder: CompareFolder, trial: Trial, dice: np.ndarray, value: float) -> None:
    """Write the output of a trained trial of segmentation: the Dice of each case and class; NaN is undefined."""
    run, classes = folder.run_path(trial), ("organ", "tumour", "vessel")[: dice.shape[1]]
    run.mkdir(parents=True)
    lines = ["id,patient,split,class,dice"]
    for number, row in enumerate(dice):
        for name, each in zip(classes, row, strict=True):
            lines.append(f"case {number},,val,{name},{'' if math.isnan(each) else each}")
    (run / "cases.csv").write_text("\n".join(lines) + "\n")
    summary = {
        "split": "val",
        "metrics": {"dice": {"value": value, "low": None, "high": None}},
        "trivial": {"dice": 0.0},
        "per_class": {name: {} for name in classes},
        "training": {"epochs": 12, "best_epoch": 9, "seconds": 300.0},
    }
    write_json(run / "summary.json", summary)


def write_int8(folder: CompareFolder, trial: Trial, drop: tuple[float, float, float], metric: str = "auroc") -> None:
    """Write the part of a manifest of a bundle in int8 that is read."""
    bundle = folder.bundle_path(trial, "int8")
    bundle.mkdir(parents=True)
    found = {"metric": metric, "drop": dict(zip(("value", "low", "high"), drop, strict=True))}
    record = {"test": found, "validation": {**found, "drop": {"value": 9, "low": 9, "high": 9}}}
    (bundle / "manifest.json").write_text(json.dumps({"quantization": record}))


def create_costs(latency_ms: Mapping[str, float], memory_mb: float = 150.0, macs: float = 4e7) -> VariantCosts:
    """Return plausible costs of a variant; precisions that ``latency_ms`` lacks are unavailable."""

    def figure(value: float | None, unit: str) -> Figure:
        known = value is not None
        return Figure(value, unit, "measured" if known else "unavailable", "batch 1" if known else "no bundle")

    def of(precision: RuntimePrecision, share: float) -> dict[str, Figure]:
        latency = latency_ms.get(precision)
        memory = None if latency is None else memory_mb * 1e6 * (1.8 if precision == "torch" else 1)
        return {
            "file": figure(None if latency is None else 22e6 * share, "bytes"),
            "latency_p50": figure(latency, "ms"),
            "latency_p95": figure(None if latency is None else 1.2 * latency, "ms"),
            "peak_memory": figure(memory, "bytes"),
            "energy": Figure(None, "J", "unavailable", "no counter can be read"),
        }

    growth = tuple(
        CostAtSize(
            image_size=(side, side),
            macs=figure(macs * (side / 28) ** 2.4, "MACs"),
            latency=figure(latency_ms["torch"] * (side / 28) ** 2.0, "ms"),
        )
        for side in (28, 56, 112, 224)
    )
    return VariantCosts(
        network={
            "parameters": figure(5.5e6, "parameters"),
            "macs": Figure(macs, "MACs", "computed", "operators"),
            "exponentials": figure(1e5, "exponentials"),
            "train_step": figure(120.0, "ms"),
            "train_memory": figure(9e8, "bytes"),
        },
        precisions={precision: of(precision, 0.27 if precision == "int8" else 1.0) for precision in PRECISIONS},
        growth=growth,
    )


def write_comparison(path: Path, *, limits: CostLimits = CostLimits(), images: int = 156) -> CompareFolder:
    """Write a comparison of eight mechanisms with three seeds; one mechanism failed, and one seed waits."""
    folder = CompareFolder(path)
    names = ("softmax", "sequence_norm", "sima", "kv", "kv_pos", "soft", "adaptive", "local")
    variants = [variant(name) for name in names] + [variant(None, "resnet_18_small")]
    refused = (
        RefusedVariant(model="resnet_18_small", attention="kv", reason="a convolutional network has no attention"),
    )
    plan = create_plan(variants, seeds=(0, 1, 2), limits=limits, refused=refused)
    path.mkdir(parents=True, exist_ok=True)
    write_plan(folder, plan)
    generator = np.random.default_rng(7)
    truth = np.arange(images) % 4 > 0
    patients = [f"p{number // 2}" for number in range(images)]
    hardness = generator.normal(size=images)
    for number, each in enumerate(variants):
        strength = 1.6 - 0.06 * number + (0.5 if each.attention is None else 0)
        for seed in plan.training.seeds:
            trial = Trial(variant=each, seed=seed)
            if each.attention == "adaptive":
                write_states(folder, trial, failed="train: ended with status 70: E-BUG: the loss is no number")
                continue
            if each.attention == "local" and seed == 2:
                continue
            logits = strength * truth + 0.9 * hardness + 0.5 * generator.normal(size=images)
            scores = np.round(1 / (1 + np.exp(-logits)), 6)
            won = (scores[truth][:, None] > scores[~truth][None]).mean()
            won += (scores[truth][:, None] == scores[~truth][None]).mean() / 2
            write_run(folder, trial, scores, truth, patients, float(won))
            if each.attention == "soft":
                write_states(folder, trial, "train", "export", failed="quantize: no rung keeps the drop within 0.005")
                continue
            write_states(folder, trial, "train", "export", "quantize")
            write_int8(folder, trial, (0.001, -0.002, 0.004 + 0.001 * seed))
        if each.attention != "adaptive":
            latency = {"torch": 9.0 - 0.6 * number, "float32": 5.0 - 0.35 * number, "int8": 3.4 - 0.2 * number}
            if each.attention == "soft":
                latency.pop("int8")
            folder.costs_path(each).parent.mkdir(exist_ok=True)
            write_json(folder.costs_path(each), create_costs(latency, 150 - 4 * number, 4e7 - 2e6 * number).to_json())
    return folder
