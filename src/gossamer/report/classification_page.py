"""The page of a classification run."""

from __future__ import annotations

import math
from typing import Any

from gossamer.evaluation.classification import ClassificationEvaluation
from gossamer.evaluation.classification_metrics import METRICS
from gossamer.inference.decisions import join_names
from gossamer.report import figures
from gossamer.report.labels import describe_decisions, describe_labels, plot_label_intervals, sort_by_auroc
from gossamer.report.page import PageOrigin, count_samples, render_page, run_values
from gossamer.summary import list_some
from gossamer.training.classification.conclusion import ClassificationConclusion


def render_run(conclusion: ClassificationConclusion, origin: PageOrigin | None = None) -> str:
    """Return the report of a run as one HTML page that needs no other file.

    Args:
        conclusion: Finished run.
        origin: Date, version and command of the page (default: today, without a command).
    """
    c = conclusion
    several = len(c.evaluation.labels) > 1
    return render_page(
        "classification.html.j2",
        origin,
        **run_values(c),
        metrics=metric_rows(c.evaluation),
        balance=_count_splits(c),
        quality=describe_quality(c),
        decision=describe_decisions(c.evaluation),
        labels=sort_by_auroc(c.evaluation.labels),
        intervals=figures.to_svg(plot_label_intervals(c.evaluation.labels)) if several else None,
        ranking=figures.to_svg(figures.plot_ranking_curves(c.predictions)),
        decisions=figures.to_svg(figures.plot_decisions(c.predictions)),
        worst=_worst_rows(c),
    )


def metric_rows(evaluation: ClassificationEvaluation) -> list[dict[str, Any]]:
    """Return the metrics as rows of a table: name, value, interval, and the value of the trivial classifier."""
    return [
        {
            "key": key,
            "label": label,
            "better": "higher is better" if higher else "lower is better",
            "estimate": evaluation.metrics[key],
            "trivial": evaluation.trivial[key],
            "nothing": None if evaluation.nothing is None else evaluation.nothing[key],
        }
        for key, (label, higher) in METRICS.items()
    ]


def describe_quality(conclusion: ClassificationConclusion) -> str:
    """Describe whether the model ranks better than chance, and where it is worse than the trivial classifier."""
    evaluation = conclusion.evaluation
    auroc = evaluation.metrics["auroc"]
    if math.isnan(auroc.value) and conclusion.run.multi_label:
        return describe_labels(evaluation)
    if math.isnan(auroc.value):
        return "AUROC is undefined: the evaluated split has images of one class only."
    interval = f"{auroc.low:.3f} to {auroc.high:.3f}"
    if auroc.low > 0.5:
        text = f"The model ranks better than chance: the 95 % interval of its AUROC, {interval}, is above 0.5."
    else:
        text = (
            "The model does not rank significantly better than chance: the 95 % interval of its AUROC, "
            f"{interval}, is not above 0.5."
        )
    worse = [
        f"{label.lower() if key == 'accuracy' else label} ({evaluation.metrics[key].value:.3f}, trivial {trivial:.3f})"
        for key, (label, higher) in METRICS.items()
        if key in ("accuracy", "f1", "brier")
        and (evaluation.metrics[key].value < (trivial := evaluation.trivial[key])) == higher
        and evaluation.metrics[key].value != trivial
    ]
    if conclusion.run.multi_label:
        text = f"{text} {describe_labels(evaluation)}"
    return f"{text} It is worse than the trivial classifier in {', '.join(worse)}." if worse else text


def _count_splits(conclusion: ClassificationConclusion) -> list[dict[str, Any]]:
    dataset = conclusion.dataset
    return [{**row, "counts": dataset.class_counts(row["split"])} for row in count_samples(dataset)]


def _worst_rows(conclusion: ClassificationConclusion) -> list[dict[str, Any]]:
    p = conclusion.predictions
    truth, predicted, correct = p.targets.astype(bool), p.predicted_classes(), p.correct()
    names, true_names = join_names(predicted, p.classes), join_names(truth, p.classes)
    missed, added = (join_names(wrong, p.classes) for wrong in (truth & ~predicted, predicted & ~truth))
    return [
        {
            "uri": figures.encode_picture(conclusion.picture(row)),
            "id": p.samples[row].id,
            "truth": true_names[row].replace("|", ", "),
            "predicted": names[row].replace("|", ", "),
            "missed": missed[row].replace("|", ", "),
            "added": list_some(added[row].split("|")),
            "confidence": float(p.probabilities[row].max()),
            "right": bool(correct[row]),
        }
        for row, _ in conclusion.worst_cases()
    ]
