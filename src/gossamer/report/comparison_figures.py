"""Figures of a comparison: intervals, Pareto fronts and growth, distinguished by shape, colour and labels.

The colours are those of Okabe and Ito. Each precision also has its own marker, and each variant its number in the
table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gossamer.comparison.deployments import find_pareto_front
from gossamer.comparison.folder import BASELINE
from gossamer.comparison.paired_tests import FEWEST
from gossamer.comparison.results import CollectedResults, VariantResult
from gossamer.evaluation.bootstrap import Estimate
from gossamer.report.figures import BLUE, GREEN, GREY, ORANGE, PALETTE, create_axes, with_style
from gossamer.report.label_placement import Label, Line, place_labels
from gossamer.variants import MB, PRECISIONS, RuntimePrecision, Variant

COSTS: dict[str, tuple[str, float]] = {
    "latency_p50": ("median latency, ms", 1.0),
    "peak_memory": ("peak memory, MB", 1 / MB),
    "file": ("file, MB", 1 / MB),
    "energy": ("energy of an image, J", 1.0),
}
"""Costs that quality is plotted against: label of the axis, and factor of its unit."""
SHOWN: dict[RuntimePrecision, tuple[str, str, str, float]] = {
    "torch": ("PyTorch, float32", ORANGE, "o", 9.0),
    "float32": ("bundle, float32", BLUE, "s", 5.5),
    "int8": ("bundle, int8", GREEN, "^", 6.0),
}
"""Name, colour, marker and marker size of each precision; at the same place, the largest is drawn first."""
WIDTH = 4.8
"""Width of a figure in inches: a wide page has two in a row, a narrow page one."""
INK = "#20242a"
FAR = 3.0
"""Largest distance of the trivial answer below the variants, in multiples of their range, at which it is drawn."""
NARROW_LABEL = 24
"""Number of letters of a label up to which a legend has two columns."""
MARKERS, LINES = "osD^vPX", ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Point:
    """A variant in a figure of one precision."""

    number: int
    name: str
    cost: float
    quality: float


def short_names(variants: Sequence[Variant]) -> dict[Variant, str]:
    """Return the names of variants in a figure: the mechanism only, if there is one network.

    A mechanism with settings has its name and an ellipsis; the number next to it distinguishes it from others.
    """
    one = len({variant.model for variant in variants if variant.attention is not None}) == 1
    named = {}
    for variant in variants:
        mechanism = None if variant.attention is None else variant.mechanism_name
        if mechanism is not None and mechanism.lstrip().startswith("{"):
            mechanism = f"{json.loads(mechanism).get('name', '')}…"
        named[variant] = variant.model if mechanism is None else mechanism if one else f"{variant.model} {mechanism}"
    return named


def points_of(results: CollectedResults, cost: str) -> dict[RuntimePrecision, list[Point]]:
    """Return the variants of each precision for which both quality and a cost are known."""
    names = short_names(results.plan.variants)
    found: dict[RuntimePrecision, list[Point]] = {}
    for precision in PRECISIONS:
        for result in results.variants:
            quality, figure = result.quality_in(precision), result.cost(cost, precision)
            if quality is not None and not math.isnan(quality) and figure.value is not None and figure.value > 0:
                value = figure.value * COSTS[cost][1]
                found.setdefault(precision, []).append(Point(result.number, names[result.variant], value, quality))
    return found


@with_style
def plot_qualities(results: CollectedResults) -> Figure:
    """Return the quality of each variant with its interval and each seed, compared with the trivial answer.

    A trivial answer that is far below them all is written at the edge, so that the variants can be distinguished.
    """
    title = f"{results.label}, {'95 % interval, ' if results.groups >= FEWEST else ''}each seed"
    figure, axes, shown = _variant_axes(results, title, results.label)
    ends: list[float] = []
    for row, result in enumerate(shown):
        assert result.quality is not None
        seeds = [trial.quality.value for trial in result.trials if trial.quality is not None]
        _draw_interval(axes, -row, result.quality, seeds, BLUE)
        ends += [*seeds, result.quality.value, result.quality.low, result.quality.high]
    drawn = [end for end in ends if not math.isnan(end)]
    if results.trivial is not None and drawn:
        if min(drawn) - results.trivial <= FAR * (max(drawn) - min(drawn)):
            axes.axvline(results.trivial, color=INK, linewidth=1, linestyle=":")
            axes.text(results.trivial, 0.65, " trivial answer", color=INK, fontsize=8, va="center")
        else:
            text = f"← trivial answer: {results.trivial:.2f}"
            axes.text(0.01, 0.65, text, color=INK, fontsize=8, va="center", transform=axes.get_yaxis_transform())
    return figure


@with_style
def plot_differences(results: CollectedResults) -> Figure:
    """Return the difference of each variant to its baseline with its interval and each seed; orange if significant."""
    figure, axes, shown = _variant_axes(
        results, "Difference to the softmax baseline", f"{results.label}, better than the baseline →"
    )
    for row, result in enumerate(shown):
        if result.versus is not None:
            color = ORANGE if result.versus.is_significant else GREY
            _draw_interval(axes, -row, result.versus.estimate, result.versus.seeds, color)
        else:
            text = " baseline" if result.variant.attention == BASELINE else " no baseline"
            axes.text(0, -row, text, color=GREY, va="center", fontsize=8)
    axes.axvline(0, color=INK, linewidth=0.8)
    return figure


@with_style
def plot_pareto_front(results: CollectedResults, cost: str) -> Figure:
    """Return quality against a cost, with a step line through the Pareto front of each precision.

    Variants on a front are named, the others have their number in the table.
    """
    figure, (axes,) = create_axes(1, (WIDTH, 4.4))
    labels: list[Label] = []
    corners: list[Line] = []
    points = points_of(results, cost)
    for precision, found in points.items():
        name, color, marker, size = SHOWN[precision]
        best = find_pareto_front([point.cost for point in found], [point.quality for point in found])
        x, y = [found[k].cost for k in best], [found[k].quality for k in best]
        axes.step(x, y, where="post", color=color, linewidth=1.3, alpha=0.75, zorder=2)
        corners += [((x[k], y[k]), (x[k + 1], y[k])) for k in range(len(x) - 1)]
        corners += [((x[k + 1], y[k]), (x[k + 1], y[k + 1])) for k in range(len(x) - 1)]
        for k, point in enumerate(found):
            face = color if k in best else "white"
            axes.plot(point.cost, point.quality, marker, color=color, markersize=size, markerfacecolor=face, zorder=3)
            text = f"{point.number} {point.name}" if k in best else str(point.number)
            labels.append(Label(text, point.cost, point.quality, color if k in best else "#5b616b", k in best))
        axes.plot([], [], marker=marker, color=color, linewidth=1.3, markersize=size, label=name)
    title = f"{results.label} against {COSTS[cost][0].split(',')[0]}"
    axes.set(title=title, xlabel=f"{COSTS[cost][0]} (cheaper ←)", ylabel=f"{results.label} (better ↑)", xscale="log")
    _plain_ticks(axes)
    axes.margins(x=0.14, y=0.16)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.14), ncols=3, columnspacing=1.2, fontsize="small")
    place_labels(axes, labels, corners)
    return figure


@with_style
def plot_growth(results: CollectedResults, name: str) -> Figure:
    """Return ``macs`` or ``latency`` against the number of pixels, with the fitted exponent next to each name."""
    title, unit = {"macs": ("Multiply-accumulates", "MACs"), "latency": ("Latency in PyTorch", "ms")}[name]
    measured = [r for r in results.variants if r.costs is not None and len(r.costs.growth) > 1]
    names = short_names(results.plan.variants)
    powers = [result.exponents()[name] for result in measured]
    labels = [
        f"{result.number} {names[result.variant]}" + ("" if math.isnan(power) else f": {power:.2f}")
        for result, power in zip(measured, powers, strict=True)
    ]
    columns = 2 if max(map(len, labels), default=0) <= NARROW_LABEL else 1
    figure, (axes,) = create_axes(1, (WIDTH, 3.4 + 0.17 * math.ceil(len(measured) / columns)))
    for number, result in enumerate(measured):
        assert result.costs is not None
        known = [(math.prod(p.image_size), v) for p in result.costs.growth if (v := getattr(p, name).value)]
        axes.plot(
            [x for x, _ in known],
            [y for _, y in known],
            color=PALETTE[number % len(PALETTE)],
            linestyle=LINES[number // len(PALETTE) % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=1.2,
            label=labels[number],
        )
    sizes = sorted({p.image_size for r in measured if r.costs for p in r.costs.growth}, key=math.prod)
    axes.set(title=f"{title}, with exponents", xlabel="image, pixels", ylabel=unit, xscale="log", yscale="log")
    axes.set_xticks([math.prod(size) for size in sizes], [f"{size[0]}×{size[1]}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=columns, fontsize="small")
    return figure


def _variant_axes(results: CollectedResults, title: str, label: str) -> tuple[Figure, Axes, list[VariantResult]]:
    """Return axes with a row for each variant that has a quality."""
    shown = [result for result in results.variants if result.quality is not None]
    figure, (axes,) = create_axes(1, (WIDTH, 1.0 + 0.3 * max(1, len(shown))))
    names = short_names(results.plan.variants)
    axes.set_yticks([-row for row in range(len(shown))], [f"{names[r.variant]}  {r.number}" for r in shown])
    axes.set(title=title, xlabel=label, ylim=(0.4 - len(shown), 1.0))
    axes.grid(visible=False, axis="y")
    return figure, axes, shown


def _draw_interval(axes: Axes, row: float, estimate: Estimate, seeds: Sequence[float], color: str) -> None:
    if not math.isnan(estimate.low):
        axes.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=2, solid_capstyle="round", zorder=3)
    axes.plot(seeds, [row] * len(seeds), "|", color=INK, markersize=9, markeredgewidth=0.9, zorder=4)
    face = {"markerfacecolor": "white", "markeredgewidth": 1.8}
    axes.plot(estimate.value, row, "o", color=color, markersize=5.5, zorder=5, **face)


def _plain_ticks(axes: Axes) -> None:
    """Label the axis with numbers such as 2, 5 and 10: a narrow range contains no power of ten."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
