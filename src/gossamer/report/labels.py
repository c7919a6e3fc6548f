"""Each label by itself: in words, and as a figure of intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gossamer.evaluation.bootstrap import Estimate
from gossamer.evaluation.classification import ClassificationEvaluation, LabelEvaluation
from gossamer.report.figures import BLUE, GREY, ORANGE, create_axes, shorten_name, with_style

MOST_ROWS = 40
"""A figure with more rows cannot be read; those of the lowest AUROC are drawn, since they are what is looked for."""

RULES = {"f1": "F1", "youden": "sensitivity + specificity - 1 (Youden)"}


def sort_by_auroc(labels: Sequence[LabelEvaluation]) -> list[LabelEvaluation]:
    """Return labels by falling AUROC; those for which it is undefined come last."""
    defined = [label for label in labels if not math.isnan(label.metrics["auroc"].value)]
    ordered = sorted(defined, key=lambda label: -label.metrics["auroc"].value)
    return ordered + [label for label in labels if math.isnan(label.metrics["auroc"].value)]


def describe_labels(evaluation: ClassificationEvaluation) -> str:
    """Return how many labels are ranked better than chance, and how many cannot be said anything of."""
    aurocs = [label.metrics["auroc"] for label in evaluation.labels]
    defined = [auroc for auroc in aurocs if not math.isnan(auroc.value)]
    if not defined:
        return "AUROC is undefined for every label: none has images with it and images without it here."
    above = sum(auroc.low > 0.5 for auroc in defined)
    said = f"Of {len(defined)} labels, {above} {'is' if above == 1 else 'are'} by themselves ranked better than chance"
    missing = len(aurocs) - len(defined)
    return f"{said}; the AUROC of {missing} more is undefined." if missing else f"{said}."


def describe_decisions(evaluation: ClassificationEvaluation) -> str:
    """Return how single images are decided, and at which thresholds sensitivity and specificity are given."""
    rule = "" if evaluation.thresholds is None else RULES[evaluation.thresholds.rule]
    if evaluation.nothing is not None:
        if not rule:
            return "A label is predicted above a probability of 0.5."
        return (
            "A label is predicted where its probability lies above its own threshold, the one with the largest "
            f"{rule} on the validation split; accuracy, balanced accuracy and F1 are those of these decisions. A rare "
            "label may so be given to more images than have it, and accuracy fall below that of no label."
        )
    if len(evaluation.labels) != 1:
        return "The class of the largest probability is predicted."
    label = evaluation.labels[0]
    sensitivity, specificity = (format_estimate(label.metrics[name]) for name in ("sensitivity", "specificity"))
    how = f"which has the largest {rule} on the validation split" if label.chosen else "since none could be chosen"
    return (
        f"The class of the larger probability is predicted. Above a probability of {label.threshold:.3f}, {how}, "
        f"{label.name} would be found with sensitivity {sensitivity} and specificity {specificity}."
    )


def format_estimate(estimate: Estimate) -> str:
    """Return a figure with its interval, or a dash where it is undefined."""
    if math.isnan(estimate.value):
        return "–"
    if math.isnan(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


@with_style
def plot_label_intervals(labels: Sequence[LabelEvaluation]) -> Figure:
    """Return AUROC and average precision of each label with intervals, beside what a ranking by chance would reach."""
    shown = sort_by_auroc(labels)[-MOST_ROWS:]
    figure, (auroc, precision) = create_axes(2, (7.4, 1.0 + 0.27 * len(shown)))
    for row, label in enumerate(shown):
        _draw_interval(auroc, -row, label.metrics["auroc"], 0.5)
        _draw_interval(precision, -row, label.metrics["average_precision"], label.prevalence)
        if not math.isnan(label.metrics["average_precision"].value):
            precision.plot([label.prevalence] * 2, [-row - 0.34, -row + 0.34], color=ORANGE, linewidth=1.6, zorder=3)
    auroc.axvline(0.5, color=ORANGE, linewidth=1.2)
    names = [f"{shorten_name(label.name)}  {_format_share(label.prevalence)}" for label in shown]
    for axes in (auroc, precision):
        axes.set_yticks([-row for row in range(len(shown))], names if axes is auroc else [""] * len(shown))
        axes.set_ylim(0.7 - len(shown), 0.7)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    lowest = [low for label in shown if not math.isnan(low := _lower_end(label.metrics["auroc"]))]
    auroc.set(title="AUROC", xlim=(min([0.45, *(low - 0.03 for low in lowest)]), 1.02))
    precision.set(title="Average precision", xlim=(-0.02, 1.02))
    auroc.set_xlabel("orange: by chance")
    precision.set_xlabel("orange: by chance, the share with it")
    return figure


def _draw_interval(axes: Axes, height: float, estimate: Estimate, chance: float) -> None:
    """Draw one interval; it is grey where it holds what chance would reach."""
    if math.isnan(estimate.value):
        axes.text(0.5, height, "undefined", color=GREY, ha="center", va="center", transform=axes.get_yaxis_transform())
        return
    color = BLUE if estimate.low > chance else GREY
    if not math.isnan(estimate.low):
        axes.plot([estimate.low, estimate.high], [height] * 2, color=color, linewidth=2, solid_capstyle="round")
    axes.plot(
        estimate.value, height, "o", color=color, markersize=6, markerfacecolor="white", markeredgewidth=1.8, zorder=4
    )


def _lower_end(estimate: Estimate) -> float:
    return estimate.value if math.isnan(estimate.low) else estimate.low


def _format_share(value: float) -> str:
    """Return a percentage as wide as any other: padded with spaces of the width of a digit."""
    return f"{value:.1%}".rjust(5, "\u2007")
