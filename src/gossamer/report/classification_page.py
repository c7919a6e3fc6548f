"""Pages: jinja2 templates filled with what a run came to."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gossamer import __version__
from gossamer.evaluation.classification import ClassificationEvaluation
from gossamer.evaluation.classification_metrics import METRICS
from gossamer.inference.decisions import join_names
from gossamer.profiling.figure import format_quantity
from gossamer.report import figures
from gossamer.report.labels import describe_decisions, describe_labels, plot_label_intervals, sort_by_auroc
from gossamer.summary import list_some
from gossamer.training.classification.conclusion import ClassificationConclusion

COST_ROWS = {
    "parameters": "Parameters",
    "weights": "Weights",
    "macs": "Multiply-accumulates, counted",
    "macs_closed_form": "Multiply-accumulates, closed form",
    "exponentials": "Exponentials",
    "pruned_queries": "Share of tokens that do not ask",
    "macs_executed": "Multiply-accumulates without them",
    "latency_p50": "Latency, median",
    "latency_p95": "Latency, 95th percentile",
    "peak_memory": "Peak memory of the process",
    "forward_memory": "Memory of a forward pass",
    "peak_memory_forecast": "Peak memory of the process, forecast",
    "forward_memory_forecast": "Memory of a forward pass, forecast",
    "train_step": "Training step, median",
    "train_memory": "Peak memory of a process that trains",
    "train_step_memory": "Memory of training",
    "train_step_memory_forecast": "Memory of training, forecast",
}


def render_run(conclusion: ClassificationConclusion) -> str:
    """Return the report of one run as one HTML page that needs nothing else."""
    c = conclusion
    several = len(c.evaluation.labels) > 1
    return (
        environment()
        .get_template("classification.html.j2")
        .render(
            c=c,
            title=c.run.title,
            version=__version__,
            metrics=metric_rows(c.evaluation),
            cost=[(COST_ROWS[name], figure) for name, figure in c.profile.items()],
            balance=_count_splits(c),
            quality=describe_quality(c),
            decision=describe_decisions(c.evaluation),
            labels=sort_by_auroc(c.evaluation.labels),
            intervals=Markup(figures.to_svg(plot_label_intervals(c.evaluation.labels))) if several else None,
            curves=Markup(
                figures.to_svg(figures.plot_learning_curves(c.fitted.history, c.fitted.best_epoch, c.run.monitor))
            ),
            ranking=Markup(figures.to_svg(figures.plot_ranking_curves(c.predictions))),
            confusion=Markup(figures.to_svg(figures.plot_decisions(c.predictions))),
            worst=_worst_rows(c),
        )
    )


def render_twins(conclusions: dict[str, ClassificationConclusion], intro: str) -> str:
    """Return a page that sets runs on the same data side by side.

    Args:
        conclusions: the runs, by the link to their own report.
        intro: what is compared, in a sentence or two.
    """
    runs = list(conclusions.values())
    return (
        environment()
        .get_template("twins.html.j2")
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
            chart=Markup(
                figures.to_svg(figures.estimates({c.run.title: c.evaluation.metrics["auroc"] for c in runs}, "AUROC"))
            ),
            ranking=[Markup(figures.to_svg(figures.plot_ranking_curves(c.predictions))) for c in runs],
            worst=_worst_rows(runs[0])[:6],
        )
    )


def render_demo(parts: list[dict[str, Any]]) -> str:
    """Return the first page of the demo.

    Args:
        parts: of each comparison the link to its page, an introduction, and its conclusions by the link of their
            report.
    """
    shown = []
    for part in parts:
        conclusions = list(part["conclusions"].values())
        name, label = ("auroc", "AUROC") if isinstance(conclusions[0], ClassificationConclusion) else ("dice", "Dice")
        values = {c.run.title: c.evaluation.metrics[name] for c in conclusions}
        shown.append(
            {
                **part,
                "title": " beside ".join(values),
                "chart": Markup(figures.to_svg(figures.estimates(values, label))),
                "runs": [(link, c.run.title) for link, c in part["conclusions"].items()],
            }
        )
    return environment().get_template("demo.html.j2").render(parts=shown, version=__version__)


def metric_rows(evaluation: ClassificationEvaluation) -> list[dict[str, Any]]:
    """Return the metrics as rows of a table: name, value, interval, the trivial classifier's value."""
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
    """Return in words whether the model ranks better than chance, and where it is worse than the trivial classifier."""
    evaluation = conclusion.evaluation
    auroc = evaluation.metrics["auroc"]
    if math.isnan(auroc.value) and conclusion.run.multi_label:
        return describe_labels(evaluation)
    if math.isnan(auroc.value):
        return "AUROC is undefined here: the evaluated split has images of one class only."
    interval = f"{auroc.low:.3f} to {auroc.high:.3f}"
    if auroc.low > 0.5:
        said = f"The model ranks better than chance: the interval of its AUROC, {interval}, lies above 0.5."
    else:
        said = f"The model is not shown to beat chance: the interval of its AUROC, {interval}, reaches 0.5."
    worse = [
        f"{label.lower() if key == 'accuracy' else label} ({evaluation.metrics[key].value:.3f}, trivial {trivial:.3f})"
        for key, (label, higher) in METRICS.items()
        if key in ("accuracy", "f1", "brier")
        and (evaluation.metrics[key].value < (trivial := evaluation.trivial[key])) == higher
        and evaluation.metrics[key].value != trivial
    ]
    if conclusion.run.multi_label:
        said = f"{said} {describe_labels(evaluation)}"
    return f"{said} It is worse than the trivial classifier in {', '.join(worse)}." if worse else said


def _count_splits(conclusion: ClassificationConclusion) -> list[dict[str, Any]]:
    dataset = conclusion.dataset
    rows = []
    for split in ("train", "val", "test"):
        counts = dataset.class_counts(split)
        samples = [sample for sample in dataset.samples if sample.split == split]
        if samples:
            patients = {sample.patient for sample in samples} - {None}
            rows.append({"split": split, "images": len(samples), "patients": len(patients), "counts": counts})
    return rows


def _worst_rows(conclusion: ClassificationConclusion) -> list[dict[str, Any]]:
    p = conclusion.predictions
    truth = join_names(p.targets.astype(bool), p.classes)
    chosen, wanted = p.chosen(), p.targets.astype(bool)
    said = join_names(chosen, p.classes)
    missed, added = (join_names(wrong, p.classes) for wrong in (wanted & ~chosen, chosen & ~wanted))
    return [
        {
            "uri": figures.encode_picture(conclusion.picture(row)),
            "id": p.samples[row].id,
            "truth": truth[row].replace("|", ", "),
            "said": said[row].replace("|", ", "),
            "missed": missed[row].replace("|", ", "),
            "added": list_some(added[row].split("|")),
            "confidence": float(p.probabilities[row].max()),
            "right": bool(p.correct()[row]),
        }
        for row, _ in conclusion.worst_cases()
    ]


def environment() -> Environment:
    """Return the templates with their filters."""
    environment = Environment(
        loader=PackageLoader("gossamer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["zip"] = zip
    environment.filters["quantity"] = format_quantity
    environment.filters["decimal"] = lambda value: "–" if value is None or math.isnan(value) else f"{value:.3f}"
    return environment
