"""The page of a segmentation run."""

from __future__ import annotations

import math
from typing import Any

from gossamer.evaluation.segmentation import SegmentationEvaluation
from gossamer.evaluation.segmentation_metrics import MASK_METRICS
from gossamer.report import figures, overlays
from gossamer.report.page import PageOrigin, count_samples, render_page, run_values
from gossamer.training.segmentation.conclusion import SegmentationConclusion

FEW_GROUPS = 10
"""Number of patients or cases below which a bootstrap interval is too narrow."""


def render_run(conclusion: SegmentationConclusion, origin: PageOrigin | None = None) -> str:
    """Return the report of a run as one HTML page that needs no other file.

    Args:
        conclusion: Finished run.
        origin: Date, version and command of the page (default: today, without a command).
    """
    c = conclusion
    return render_page(
        "segmentation.html.j2",
        origin,
        **run_values(c),
        metrics=metric_rows(c.evaluation),
        splits=_count_splits(c),
        quality=describe_quality(c),
        dice=figures.to_svg(overlays.plot_case_dice(c.evaluation)),
        sizes=figures.to_svg(overlays.plot_sizes(c.evaluation)),
        key=overlays.draw_legend(c.run.classes),
        shown=_shown_cases(c),
    )


def metric_rows(evaluation: SegmentationEvaluation) -> list[dict[str, Any]]:
    """Return the metrics as rows of a table: name, mean, interval, each class, and the value of an empty mask."""
    rows = []
    for key, (label, higher) in MASK_METRICS.items():
        unit = evaluation.unit if key == "hd95" else ""
        detail = f" at {evaluation.tolerance:g} {evaluation.unit}" if key == "surface_dice" else ""
        rows.append(
            {
                "key": key,
                "label": f"{label}{detail}" + (f", {unit}" if unit else ""),
                "better": "higher is better" if higher else "lower is better",
                "estimate": evaluation.metrics[key],
                # Weighted Jaccard is one figure for all classes.
                "classes": []
                if key == "jaccard_weighted"
                else [evaluation.per_class[name][key] for name in evaluation.classes],
                "trivial": evaluation.trivial[key],
            }
        )
    return rows


def describe_quality(conclusion: SegmentationConclusion) -> str:
    """Describe how good the masks are, and which class is the weakest."""
    evaluation = conclusion.evaluation
    dice = evaluation.metrics["dice"]
    if math.isnan(dice.value):
        return "The Dice is undefined: no case of the evaluated split contains a class."
    if math.isnan(dice.low):
        text = f"The Dice is {dice.value:.3f}, from a single patient or case, so that there is no interval."
    else:
        text = f"The mean Dice is {dice.value:.3f}, with a 95 % interval of {dice.low:.3f} to {dice.high:.3f}."
        if evaluation.groups < FEW_GROUPS:
            text += f" It is based on {evaluation.groups} patients or cases, too few for a reliable interval."
    if len(evaluation.classes) > 1:
        values = {name: evaluation.per_class[name]["dice"].value for name in evaluation.classes}
        defined = {name: value for name, value in values.items() if not math.isnan(value)}
        worst = min(defined, key=lambda name: defined[name])
        text += f" The weakest class is {worst}, with {defined[worst]:.3f}."
    if dice.low <= evaluation.trivial["dice"]:
        text += " It is not significantly better than an empty mask."
    return text


def _shown_cases(conclusion: SegmentationConclusion) -> list[dict[str, Any]]:
    return [
        {
            "rank": case.rank,
            "id": case.id,
            "uri": overlays.draw_overlay(case.example),
            "slice": case.example.slice_index,
            "dice": [
                (name, value)
                for name, value in zip(conclusion.run.classes, case.dice, strict=True)
                if not math.isnan(value)
            ],
        }
        for case in conclusion.shown
    ]


def _count_splits(conclusion: SegmentationConclusion) -> list[dict[str, Any]]:
    slices = conclusion.slices
    return [{**row, "slices": slices.get(row["split"])} for row in count_samples(conclusion.dataset)]
