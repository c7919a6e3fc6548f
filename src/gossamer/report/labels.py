"""Results of each label on its own: in words, and as a figure of intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gossamer.evaluation.bootstrap import Estimate
from gossamer.evaluation.classification import ClassificationEvaluation, LabelEvaluation
from gossamer.report.figures import BLUE, GREY, ORANGE, create_axes, shorten_name, with_style

MOST_ROWS = 40
"""Largest number of rows of a readable figure; of more labels, those with the lowest AUROC are drawn."""

RULES = {"f1": "F1", "youden": "sensitivity + specificity - 1 (Youden)"}


def sort_by_auroc(labels: Sequence[LabelEvaluation]) -> list[LabelEvaluation]:
    """Return labels in order of decreasing AUROC; those with an undefined AUROC come last."""
    defined = [label for label in labels if not math.isnan(label.metrics["auroc"].value)]
    ordered = sorted(defined, key=lambda label: -label.metrics["auroc"].value)
    return ordered + [label for label in labels if math.isnan(label.metrics["auroc"].value)]


def describe_labels(evaluation: ClassificationEvaluation) -> str:
    """Describe how many labels are ranked better than chance, and for how many the AUROC is undefined."""
    aurocs = [label.metrics["auroc"] for label in evaluation.labels]
    defined = [auroc for auroc in aurocs if not math.isnan(auroc.value)]
    if not defined:
        return "AUROC is undefined for every label: no label has both images with it and images without it."
    above = sum(auroc.low > 0.5 for auroc in defined)
    text = f"Of {len(defined)} labels, {above} {'is' if above == 1 else 'are'} ranked better than chance on their own"
    missing = len(aurocs) - len(defined)
    return f"{text}; for {missing} more, AUROC is undefined." if missing else f"{text}."


def describe_decisions(evaluation: ClassificationEvaluation) -> str:
    """Describe how the class of an image is decided, and at which thresholds sensitivity and specificity hold."""
    rule = "" if evaluation.thresholds is None else RULES[evaluation.thresholds.rule]
    if evaluation.nothing is not None:
        if not rule:
            return "A label is predicted if its probability is above 0.5."
        return (
            "A label is predicted if its probability is above its own threshold, the one with the largest "
            f"{rule} on the validation split. Accuracy, balanced accuracy and F1 are computed from these decisions. A "
            "rare label may therefore be predicted for more images than have it, and accuracy may be lower than that "
            "of predicting no label."
        )
    if len(evaluation.labels) != 1:
        return "The class with the largest probability is predicted."
    label = evaluation.labels[0]
    sensitivity, specificity = (format_estimate(label.metrics[name]) for name in ("sensitivity", "specificity"))
    how = f"the largest {rule} on the validation split" if label.chosen else "the default, since none could be chosen"
    return (
        f"The class with the larger probability is predicted. At a threshold of {label.threshold:.3f} ({how}), "
        f"{label.name} would be found with sensitivity {sensitivity} and specificity {specificity}."
    )


def format_estimate(estimate: Estimate) -> str:
    """Return a metric with its interval, or a dash where it is undefined."""
    if math.isnan(estimate.value):
        return "–"
    if math.isnan(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


@with_style
def plot_label_intervals(labels: Sequence[LabelEvaluation]) -> Figure:
    """Return AUROC and average precision of each label with intervals, compared with those of a random ranking."""
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
    auroc.set_xlabel("orange: random ranking")
    precision.set_xlabel("orange: random ranking, the share of the label")
    return figure


def _draw_interval(axes: Axes, height: float, estimate: Estimate, chance: float) -> None:
    """Draw one interval, grey if it includes the value of a random ranking."""
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
    """Return a percentage, padded to equal width with spaces that are as wide as a digit."""
    return f"{value:.1%}".rjust(5, "\u2007")
