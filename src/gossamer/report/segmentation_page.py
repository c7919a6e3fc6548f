"""The page of a segmentation run, and that of several side by side."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from gossamer import __version__
from gossamer.evaluation.segmentation import SegmentationEvaluation
from gossamer.evaluation.segmentation_metrics import MASK_METRICS
from gossamer.report import figures, overlays
from gossamer.report.classification_page import COST_ROWS, environment
from gossamer.training.segmentation.conclusion import SegmentationConclusion

FEW_GROUPS = 10
"""With fewer patients than these, a bootstrap interval is too narrow."""


def render_run(conclusion: SegmentationConclusion) -> str:
    """Return the report of one segmentation run as one HTML page that needs nothing else."""
    c = conclusion
    curves = figures.plot_learning_curves(c.fitted.history, c.fitted.best_epoch, c.run.monitor)
    return (
        environment()
        .get_template("segmentation.html.j2")
        .render(
            c=c,
            title=c.run.title,
            version=__version__,
            metrics=metric_rows(c.evaluation),
            cost=[(COST_ROWS[name], figure) for name, figure in c.profile.items()],
            quality=describe_quality(c),
            curves=Markup(figures.to_svg(curves)),
            dice=Markup(figures.to_svg(overlays.plot_case_dice(c.evaluation))),
            sizes=Markup(figures.to_svg(overlays.plot_sizes(c.evaluation))),
            key=overlays.draw_legend(c.run.classes),
            shown=_shown_cases(c),
            splits=_count_splits(c),
        )
    )


def render_mask_twins(conclusions: dict[str, SegmentationConclusion], intro: str) -> str:
    """Return a page that sets segmentation runs on the same data side by side.

    Args:
        conclusions: the runs, by the link to their own report.
        intro: what is compared, in a sentence or two.
    """
    runs = list(conclusions.values())
    chart = figures.estimates({c.run.title: c.evaluation.metrics["dice"] for c in runs}, "Dice")
    return (
        environment()
        .get_template("mask_twins.html.j2")
        .render(
            intro=intro,
            version=__version__,
            runs=[
                {"link": link, "title": c.run.title, "c": c, "metrics": metric_rows(c.evaluation)}
                for link, c in conclusions.items()
            ],
            cost=[
                (label, [c.profile[name] for c in runs])
                for name, label in COST_ROWS.items()
                if all(name in c.profile for c in runs)
            ],
            chart=Markup(figures.to_svg(chart)),
            key=overlays.draw_legend(runs[0].run.classes),
            shown=[_shown_cases(c)[:6] for c in runs],
        )
    )


def metric_rows(evaluation: SegmentationEvaluation) -> list[dict[str, Any]]:
    """Return the metrics as rows of a table: name, mean, interval, each class, what predicting nothing gets."""
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
        return "No case of the evaluated split holds a class, so that nothing can be said."
    said = f"The mean Dice is {dice.value:.3f}, with a 95 % interval of {dice.low:.3f} to {dice.high:.3f}."
    if math.isnan(dice.low):
        said = f"The Dice is {dice.value:.3f}, of one patient or case alone, which says nothing of others."
    elif evaluation.groups < FEW_GROUPS:
        said += f" It rests on {evaluation.groups} patients or cases, too few for the interval to be trusted."
    if len(evaluation.classes) > 1:
        values = {name: evaluation.per_class[name]["dice"].value for name in evaluation.classes}
        defined = {name: value for name, value in values.items() if not math.isnan(value)}
        worst = min(defined, key=lambda name: defined[name])
        said += f" The weakest class is {worst}, with {defined[worst]:.3f}."
    if dice.low <= evaluation.trivial["dice"]:
        said += " It is not shown to beat predicting nothing."
    return said


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
    rows = []
    for split in ("train", "val", "test"):
        samples = [sample for sample in conclusion.dataset.samples if sample.split == split]
        if samples:
            patients = {sample.patient for sample in samples} - {None}
            slices = conclusion.slices.get(split)
            rows.append({"split": split, "cases": len(samples), "patients": len(patients), "slices": slices})
    return rows
