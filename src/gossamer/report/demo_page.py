"""The page of the demo: every step with its command, its pictures and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gossamer.evaluation.example_slice import ExampleSlice
from gossamer.inference.manifest import Manifest
from gossamer.profiling.figure import FIGURE_LABELS, format_quantity
from gossamer.report import figures, overlays
from gossamer.report.page import PageOrigin, render_page

COMPARED_COSTS = ("file", "latency_p50", "peak_memory")


@dataclass(frozen=True)
class DemoPicture:
    """A picture with a caption.

    Attributes:
        uri: Picture as a data URI.
        caption: Text below the picture.
        wrong: Whether the caption states a wrong prediction.
    """

    uri: str
    caption: str
    wrong: bool = False


@dataclass(frozen=True, kw_only=True)
class DemoPart:
    """The road of one task through the demo.

    Attributes:
        name: Name of the folders of the part, such as ``chest``.
        title: Title of the part.
        task: Description of the task.
        commands: Command line of each step: ``draw``, ``train``, ``export``, ``quantize``, ``evaluate``, ``predict``.
        images: Number of images or volumes of each split.
        unit: Name of what ``images`` counts, in the plural.
        inputs: Pictures of the drawn images.
        conclusion: Conclusion of the training run.
        report: Link to the report of the run.
        metric: Name of the metric that is shown, and its label.
        float32: Manifest of the bundle in float32.
        int8: Manifest of the bundle in int8.
        int8_metrics: Metrics of the int8 bundle on the test split, with the keys of the run's metrics.
        predictions: Pictures of test images as the int8 bundle predicts them.
        legend: Legend of the predictions as a data URI (default: none).
    """

    name: str
    title: str
    task: str
    commands: Mapping[str, str]
    images: Mapping[str, int]
    unit: str
    inputs: Sequence[DemoPicture]
    conclusion: Any
    report: str
    metric: tuple[str, str]
    float32: Manifest
    int8: Manifest
    int8_metrics: Mapping[str, Any]
    predictions: Sequence[DemoPicture]
    legend: str | None = None

    @property
    def quality(self) -> Any:
        """Estimate of the metric by the trained run."""
        return self.conclusion.evaluation.metrics[self.metric[0]]

    @property
    def curves(self) -> Markup:
        """Learning curves as SVG."""
        fitted = self.conclusion.fitted
        curves = figures.plot_learning_curves(fitted.history, fitted.best_epoch, self.conclusion.run.monitor)
        return figures.to_svg(curves)

    @property
    def comparison(self) -> list[tuple[str, ...]]:
        """Rows of the comparison of both bundles: label, float32, int8."""
        name, label = self.metric
        values = (self.quality.value, self.int8_metrics[name].value)
        rows: list[tuple[str, ...]] = [(f"{label}, test split", *(f"{value:.3f}" for value in values))]
        for key in COMPARED_COSTS:
            costs = [manifest.cost[key] for manifest in (self.float32, self.int8)]
            rows.append((FIGURE_LABELS[key], *(format_quantity(cost["value"], cost["unit"]) for cost in costs)))
        return rows


def render_demo(parts: Sequence[DemoPart], origin: PageOrigin | None = None) -> str:
    """Return the page of the demo as HTML that needs no other file.

    Args:
        parts: One part for each task.
        origin: Date, version and command of the page (default: today, without a command).
    """
    return render_page("demo.html.j2", origin, parts=parts)


def show_image(array: Any, caption: str, *, wrong: bool = False) -> DemoPicture:
    """Return a greyscale picture with its values stretched to their range.

    Args:
        array: Values ``(rows, columns)`` or ``(rows, columns, 1)``.
        caption: Text below the picture.
        wrong: Whether the caption states a wrong prediction.
    """
    picture = array.astype("float32").reshape(array.shape[:2])
    low, high = float(picture.min()), float(picture.max())
    return DemoPicture(figures.encode_picture((picture - low) / max(high - low, 1e-6)), caption, wrong)


def show_overlay(example: ExampleSlice, caption: str) -> DemoPicture:
    """Return a slice with the contours of truth and prediction."""
    return DemoPicture(overlays.draw_overlay(example), caption)
