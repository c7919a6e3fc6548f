"""Figures of masks: contours of truth and prediction on a slice, the Dice of every case, and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gossamer.evaluation.example_slice import ExampleSlice
from gossamer.evaluation.segmentation import SegmentationEvaluation
from gossamer.report.figures import GREY, class_color, create_axes, to_png_uri, with_style

_INCHES = 3.0
_TRUTH: dict[str, Any] = {"linewidths": 4.2, "alpha": 0.5}
_PREDICTION: dict[str, Any] = {"linewidths": 1.3, "alpha": 1.0}


def draw_overlay(example: ExampleSlice) -> str:
    """Return the slice with contours as a PNG data URI.

    Each class has one colour. The truth is a wide pale band and the prediction a thin line, so that neither hides the
    other.
    """
    rows, columns = example.picture.shape[:2]
    height = rows * example.aspect
    scale = _INCHES / max(height, columns)
    figure = Figure(figsize=(columns * scale, height * scale), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(example.picture, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for k, (truth, prediction) in enumerate(zip(example.truth, example.prediction, strict=True)):
        _draw_contour(axes, truth, class_color(k), _TRUTH)
        _draw_contour(axes, prediction, class_color(k), _PREDICTION)
    axes.set_axis_off()
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    return to_png_uri(figure)


@with_style
def plot_case_dice(evaluation: SegmentationEvaluation) -> Figure:
    """Return the Dice of every case as points, one column for each class, with the median."""
    figure, (axes,) = create_axes(1, (7.4, 3.0))
    generator = np.random.default_rng(0)
    for k in range(len(evaluation.classes)):
        color = class_color(k)
        dice = np.array([case.metrics["dice"][k] for case in evaluation.cases])
        dice = dice[~np.isnan(dice)]
        axes.scatter(k + generator.uniform(-0.18, 0.18, dice.size), dice, s=14, color=color, alpha=0.6, linewidth=0)
        if dice.size:
            axes.plot([k - 0.3, k + 0.3], [np.median(dice)] * 2, color=color, linewidth=2.5)
    axes.set_xticks(range(len(evaluation.classes)), list(evaluation.classes))
    axes.set(title="Dice of each case, with the median", ylabel="Dice", ylim=(-0.02, 1.02))
    axes.grid(visible=False, axis="x")
    return figure


@with_style
def plot_sizes(evaluation: SegmentationEvaluation) -> Figure:
    """Return the predicted size of each class in each case against its true size."""
    figure, (axes,) = create_axes(1, (4.6, 4.2))
    unit = {"mm2": "mm²", "px": "pixels"}.get(evaluation.size_unit, evaluation.size_unit)
    largest = 0.0
    for k, name in enumerate(evaluation.classes):
        true = np.array([case.wanted[k] for case in evaluation.cases])
        predicted = np.array([case.predicted[k] for case in evaluation.cases])
        largest = max(largest, float(true.max(initial=0)), float(predicted.max(initial=0)))
        marker = ("o", "s", "^", "D", "v", "P", "X")[k % 7]
        axes.scatter(true, predicted, s=16, color=class_color(k), alpha=0.7, linewidth=0, label=name, marker=marker)
    axes.plot([0, largest], [0, largest], color=GREY, linewidth=0.8)
    axes.set(title=f"Size of each class in {unit}", xlabel="truth", ylabel="prediction")
    axes.set_aspect("equal")
    axes.legend(loc="best")
    return figure


def draw_legend(classes: tuple[str, ...]) -> str:
    """Return the legend of the overlays as a PNG data URI."""
    figure = Figure(figsize=(7.4, 0.34), dpi=110)
    handles = [Line2D([], [], color=class_color(k), linewidth=3, label=name) for k, name in enumerate(classes)]
    handles += [
        Line2D([], [], color="#20242a", linewidth=style["linewidths"], alpha=style["alpha"], label=label)
        for style, label in ((_TRUTH, "truth"), (_PREDICTION, "prediction"))
    ]
    figure.legend(handles=handles, loc="center left", ncols=len(handles), frameon=False, fontsize=8.5)
    return to_png_uri(figure)


def _draw_contour(axes: Axes, mask: np.ndarray, color: str, style: dict[str, Any]) -> None:
    if mask.any():
        padded = np.pad(mask.astype(np.float32), 1)
        rows, columns = (np.arange(size) - 1 for size in padded.shape)
        axes.contour(columns, rows, padded, levels=[0.5], colors=[color], **style)
