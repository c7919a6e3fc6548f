"""Figures of runs, drawn with matplotlib.

The colours are those of Okabe and Ito, which readers with colour blindness can distinguish. A class has one colour in
all figures of a report.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from gossamer.evaluation.classification_metrics import CALIBRATION_BINS
from gossamer.evaluation.predictions import Predictions
from gossamer.files import replace_atomically

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a8f98"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#000000")
CLASS_COLORS = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#0072B2", "#F0E442")
"""Colours of classes, visible on white and on greyscale images; after the last one they repeat."""
VALIDATION_METRICS = {"val_auroc": "AUROC", "val_accuracy": "accuracy", "val_dice": "Dice", "val_jaccard": "Jaccard"}
"""Validation metrics of a history and their names; the first one present chooses the best epoch."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a8",
    "axes.labelcolor": "#3a3f47",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e7e9ec",
    "xtick.color": "#5b616b",
    "ytick.color": "#5b616b",
    "legend.frameon": False,
}


def class_color(index: int) -> str:
    """Return the colour of the class with this index in every figure of a report."""
    return CLASS_COLORS[index % len(CLASS_COLORS)]


def with_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Return ``draw`` with the style of reports, without a change to matplotlib's own settings."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def to_svg(figure: Figure) -> Markup:
    """Return a figure as SVG for a page; equal figures give equal text."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "gossamer"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def to_png_uri(figure: Figure) -> str:
    """Return a figure as a PNG data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return encode_png(buffer.getvalue())


def encode_png(data: bytes) -> str:
    """Return the bytes of a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def encode_picture(array: np.ndarray, side: int = 168) -> str:
    """Return a picture as a PNG data URI.

    Args:
        array: Greyscale ``(rows, columns)`` or RGB ``(rows, columns, 3)`` picture with values 0 to 1.
        side: Height of the enlarged picture in pixels.
    """
    picture = PillowImage.fromarray(np.round(np.clip(array, 0, 1) * 255).astype(np.uint8))
    scale = side / picture.height
    enlarged = picture.resize((max(1, round(picture.width * scale)), side), PillowImage.Resampling.BICUBIC)
    buffer = io.BytesIO()
    enlarged.save(buffer, format="PNG", optimize=True)
    return encode_png(buffer.getvalue())


@with_style
def plot_learning_curves(history: Sequence[dict[str, float]], best_epoch: int, monitor: str) -> Figure:
    """Return the loss and the validation metrics over the epochs, with the best epoch marked.

    Args:
        history: Values of each epoch, by the names of their columns in ``metrics.csv``.
        best_epoch: Index of the best epoch in the history.
        monitor: Name of the validation metric that chose it.
    """
    figure, (loss, metric) = create_axes(2, (7.4, 2.7))
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) == 1 else None  # one epoch makes no line
    loss.plot(
        epochs, [row["train_loss"] for row in history], color=GREY, label="training, with augmentation", marker=marker
    )
    label = "validation, cross-entropy only" if "val_dice" in history[0] else "validation"
    loss.plot(epochs, [row["val_loss"] for row in history], color=BLUE, label=label, marker=marker)
    loss.set(title="Loss", xlabel="epoch")
    loss.legend()
    shown = [(name, label) for name, label in VALIDATION_METRICS.items() if name in history[0]]
    for (name, label), color, style in zip(shown, (BLUE, ORANGE), ("-", "--"), strict=False):
        metric.plot(epochs, [row[name] for row in history], color=color, linestyle=style, label=label, marker=marker)
    metric.set(title="Validation", xlabel="epoch", ylim=(None, 1.005))
    for axes, name in ((metric, shown[0][0]), (loss, "val_loss")):
        if name == monitor:
            axes.plot(
                epochs[best_epoch], history[best_epoch][name], "o", color=BLUE, markersize=7, markerfacecolor="white"
            )
            axes.set_title(f"best at epoch {int(epochs[best_epoch])}", loc="right", color=BLUE, fontsize="medium")
    metric.legend(loc="lower right")
    return figure


@with_style
def plot_ranking_curves(predictions: Predictions) -> Figure:
    """Return a ROC and a precision-recall curve for each class; of two classes, for the second only."""
    figure, (roc, pr) = create_axes(2, (7.4, 3.4))
    truths = predictions.targets.astype(bool)
    columns = [1] if truths.shape[1] == 2 and not predictions.multi_label else list(range(truths.shape[1]))
    for number, k in enumerate(columns[: len(CLASS_COLORS)]):
        if 0 < truths[:, k].sum() < len(truths):
            false_rate, true_rate, precision = _compute_curves(predictions.probabilities[:, k], truths[:, k])
            color, style = class_color(k), ("-", "--", "-.", ":")[number % 4]
            roc.plot(false_rate, true_rate, color=color, linestyle=style, label=predictions.classes[k])
            pr.step(true_rate, precision, where="post", color=color, linestyle=style, label=predictions.classes[k])
            pr.axhline(truths[:, k].mean(), color=color, linewidth=0.8, alpha=0.5)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    roc.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    pr.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.02), aspect="equal")
    for axes in (roc, pr):
        axes.set_xlim(-0.02, 1.02)
    is_partial = len(columns) > len(CLASS_COLORS)
    roc.legend(
        loc="lower right",
        title=f"the first {len(CLASS_COLORS)} of {len(columns)}" if is_partial else "positive class",
        fontsize="small" if is_partial else None,
        frameon=is_partial,
    )
    return figure


@with_style
def plot_decisions(predictions: Predictions) -> Figure:
    """Return the confusion matrix, or the share of images with each label, and the reliability diagram."""
    rows = len(predictions.classes) if predictions.multi_label else 0
    figure, (confusion, reliability) = create_axes(2, (7.4, max(3.6, 0.8 + 0.27 * rows)))
    _draw_confusion(confusion, predictions)
    _draw_reliability(reliability, predictions)
    return figure


def _draw_confusion(axes: Axes, predictions: Predictions) -> None:
    truths = predictions.targets.astype(bool)
    chosen = predictions.predicted_classes()
    if (
        predictions.multi_label
    ):  # for each label: the share of images with it, and of those without it, that are given the label
        positives, negatives = truths.sum(axis=0), (~truths).sum(axis=0)
        counts = np.stack([(chosen & truths).sum(axis=0), (chosen & ~truths).sum(axis=0)], axis=1)
        totals = np.stack([positives, negatives], axis=1)
        columns, rows, label = ["with it", "without it"], list(predictions.classes), "share of images given the label"
    else:
        counts = truths.astype(int).T @ chosen.astype(int)
        totals = np.broadcast_to(truths.sum(axis=0)[:, None], counts.shape)
        columns, rows, label = list(predictions.classes), list(predictions.classes), "predicted"
    shares = counts / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if counts.size <= 100:
        break_line = "  " if predictions.multi_label else "\n"
        for (i, j), count in np.ndenumerate(counts):
            ink = "white" if shares[i, j] > 0.55 else "#20242a"
            text = f"{count}{break_line}{shares[i, j]:.0%}" if totals[i, j] else "–"
            axes.text(j, i, text, ha="center", va="center", color=ink)
    axes.set_xticks(
        range(len(columns)), [shorten_name(name) for name in columns], rotation=30 if len(columns) > 3 else 0
    )
    axes.set_yticks(
        range(len(rows)), [shorten_name(name) for name in rows], rotation=90 if len(rows) <= 2 else 0, va="center"
    )
    title = "Images given each label" if predictions.multi_label else "Confusion matrix"
    axes.set(title=title, xlabel=label, ylabel="label" if predictions.multi_label else "truth")
    axes.grid(visible=False)


def _draw_reliability(axes: Axes, predictions: Predictions) -> None:
    truths = predictions.targets.astype(bool)
    if predictions.multi_label:
        confidence, hit, label = predictions.probabilities.ravel(), truths.ravel(), "predicted probability of a label"
    elif truths.shape[1] == 2:
        confidence, hit = predictions.probabilities[:, 1], truths[:, 1]
        label = f"predicted probability of {predictions.classes[1]}"
    else:
        best = predictions.probabilities.argmax(axis=1)
        confidence, hit = predictions.probabilities.max(axis=1), truths[np.arange(len(truths)), best]
        label = "confidence of the predicted class"
    bins = np.clip((confidence * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = counts > 0
    mean = np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS)[filled] / counts[filled]
    rate = np.bincount(bins, weights=hit, minlength=CALIBRATION_BINS)[filled] / counts[filled]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axes.scatter(mean, rate, s=12 + 160 * counts[filled] / counts.max(), color=BLUE, edgecolor="white", zorder=3)
    axes.set(title="Reliability", xlabel=label, ylabel="observed share", xlim=(-0.06, 1.06), ylim=(-0.06, 1.06))


def _compute_curves(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return false positive rate, true positive rate and precision at each threshold, from none to all positive."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(truth[order])[ends]
    called = ends + 1
    first = [0.0]
    false_rate = np.concatenate([first, (called - hits) / (~truth).sum()])
    return false_rate, np.concatenate([first, hits / truth.sum()]), np.concatenate([[1.0], hits / called])


def create_axes(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` axes side by side; ``size`` is in inches."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, [figure.add_subplot(1, count, number + 1) for number in range(count)]


def shorten_name(name: str) -> str:
    """Return a name that fits next to an axis, shortened to 18 characters."""
    return name if len(name) <= 18 else name[:17] + "…"
