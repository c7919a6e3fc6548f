"""Pictures of masks: contours of truth and prediction on a slice, Dice of every case, sizes against sizes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.evaluation.segmentation import SegmentationEvaluation
from gossamer.report.figures import GREY, PALETTE, axes_in_a_row, styled

CONTOUR_COLORS = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
_INCHES = 3.0
_TRUTH: dict[str, Any] = {"linewidths": 4.2, "alpha": 0.5}
_PREDICTION: dict[str, Any] = {"linewidths": 1.3, "alpha": 1.0}


@dataclass(frozen=True)
class Overlay:
    """One slice to look at.

    Attributes:
        picture: ``(rows, columns[, 3])``, values 0..1.
        truth: bool ``(classes, rows, columns)``.
        prediction: the same.
        slice_index: which slice of a volume it is, or None.
        aspect: height of a pixel over its width.
    """

    picture: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    slice_index: int | None
    aspect: float


def choose_slice(image: Image, truth: LabelMap, prediction: LabelMap) -> Overlay:
    """Return the slice where truth and prediction together are largest.

    A volume whose orientation is known is shown as radiologists look at it: anterior up, the patient's right on the
    left.
    """
    aspect = image.spacing_mm[-2] / image.spacing_mm[-1] if image.spacing_mm is not None else 1.0
    array, wanted, said, index = image.array, truth.planes, prediction.planes, None
    if "slices" in image.axes:
        index = int((wanted | said).sum(axis=(0, 2, 3)).argmax())
        array, wanted, said = array[index], wanted[:, index], said[:, index]
    picture = array.astype(np.float32)
    if picture.ndim == 3 and picture.shape[-1] != 3:
        picture = picture[..., 0]
    if image.geometry is not None and image.geometry.oriented:
        picture, wanted, said = picture[::-1, ::-1], wanted[:, ::-1, ::-1], said[:, ::-1, ::-1]
    low, high = np.percentile(picture, (0.5, 99.5))
    return Overlay(np.clip((picture - low) / max(high - low, 1e-6), 0, 1), wanted, said, index, aspect)


def overlay_uri(overlay: Overlay) -> str:
    """Return the slice with contours, as a PNG data address.

    One colour a class: the truth is a wide pale band, the prediction a thin line, so that neither hides the other.
    """
    rows, columns = overlay.picture.shape[:2]
    height = rows * overlay.aspect
    scale = _INCHES / max(height, columns)
    figure = Figure(figsize=(columns * scale, height * scale), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(overlay.picture, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for truth, prediction, color in zip(overlay.truth, overlay.prediction, _colors(len(overlay.truth)), strict=True):
        _contour(axes, truth, color, _TRUTH)
        _contour(axes, prediction, color, _PREDICTION)
    axes.set_axis_off()
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@styled
def dice_of_cases(evaluation: SegmentationEvaluation) -> Figure:
    """Return the Dice of every case, a column of points a class, with the median."""
    figure, (axes,) = axes_in_a_row(1, (7.4, 3.0))
    generator = np.random.default_rng(0)
    for k, color in enumerate(_palette(len(evaluation.classes))):
        dice = np.array([case.metrics["dice"][k] for case in evaluation.cases])
        dice = dice[~np.isnan(dice)]
        axes.scatter(k + generator.uniform(-0.18, 0.18, dice.size), dice, s=14, color=color, alpha=0.6, linewidth=0)
        if dice.size:
            axes.plot([k - 0.3, k + 0.3], [np.median(dice)] * 2, color=color, linewidth=2.5)
    axes.set_xticks(range(len(evaluation.classes)), list(evaluation.classes))
    axes.set(title="Dice of each case, and the median", ylabel="Dice", ylim=(-0.02, 1.02))
    axes.grid(visible=False, axis="x")
    return figure


@styled
def sizes_against_truth(evaluation: SegmentationEvaluation) -> Figure:
    """Return the predicted size of each class in each case against the true one."""
    figure, (axes,) = axes_in_a_row(1, (4.6, 4.2))
    unit = {"mm2": "mm²", "px": "pixels"}.get(evaluation.size_unit, evaluation.size_unit)
    largest = 0.0
    for k, (name, color) in enumerate(zip(evaluation.classes, _palette(len(evaluation.classes)), strict=True)):
        wanted = np.array([case.wanted[k] for case in evaluation.cases])
        said = np.array([case.predicted[k] for case in evaluation.cases])
        largest = max(largest, float(wanted.max(initial=0)), float(said.max(initial=0)))
        marker = ("o", "s", "^", "D", "v", "P", "X")[k % 7]
        axes.scatter(wanted, said, s=16, color=color, alpha=0.7, linewidth=0, label=name, marker=marker)
    axes.plot([0, largest], [0, largest], color=GREY, linewidth=0.8)
    axes.set(title=f"Size of each class in {unit}", xlabel="truth", ylabel="prediction")
    axes.set_aspect("equal")
    axes.legend(loc="best")
    return figure


def legend_uri(classes: tuple[str, ...]) -> str:
    """Return the key of the overlays, as a PNG data address."""
    figure = Figure(figsize=(7.4, 0.34), dpi=110)
    handles = [
        Line2D([], [], color=color, linewidth=3, label=name)
        for name, color in zip(classes, _colors(len(classes)), strict=True)
    ]
    handles += [
        Line2D([], [], color="#20242a", linewidth=style["linewidths"], alpha=style["alpha"], label=label)
        for style, label in ((_TRUTH, "truth"), (_PREDICTION, "prediction"))
    ]
    figure.legend(handles=handles, loc="center left", ncols=len(handles), frameon=False, fontsize=8.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _contour(axes: Axes, mask: np.ndarray, color: str, style: dict[str, Any]) -> None:
    if mask.any():
        padded = np.pad(mask.astype(np.float32), 1)
        rows, columns = (np.arange(size) - 1 for size in padded.shape)
        axes.contour(columns, rows, padded, levels=[0.5], colors=[color], **style)


def _colors(count: int) -> list[str]:
    return [CONTOUR_COLORS[k % len(CONTOUR_COLORS)] for k in range(count)]


def _palette(count: int) -> list[str]:
    return [PALETTE[k % len(PALETTE)] for k in range(count)]
