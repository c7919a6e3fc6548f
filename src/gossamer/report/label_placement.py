"""Labels of points in a figure that cover neither each other nor a point nor a line.

adjustText was considered: it needs SciPy, moves labels by iteration and does not keep them off lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

MARKER_POINTS = 5.0
"""Half the side of the square that a marker covers, in points."""


@dataclass(frozen=True)
class Label:
    """A label and the point it belongs to.

    Attributes:
        text: Text of the label.
        x: Coordinate of the point in the units of the x-axis.
        y: Coordinate of the point in the units of the y-axis.
        color: Colour of the text.
        strong: Whether the label is bold and placed before the others.
    """

    text: str
    x: float
    y: float
    color: str
    strong: bool


Line = tuple[tuple[float, float], tuple[float, float]]
"""Two ends of a line that is parallel to an axis, in the units of the axes."""


def place_labels(axes: Axes, labels: Sequence[Label], lines: Sequence[Line] = ()) -> None:
    """Write labels near their points, connected to them by a line where they had to move away.

    Each label takes the nearest place around its point that is free and inside the axes or, if there is none, the place
    that covers the smallest area. The layout of the figure must not change afterwards.

    Args:
        axes: Axes that contain the points.
        labels: Labels to write.
        lines: Lines that labels must not cover.
    """
    figure = axes.figure.get_figure(root=True)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # keeps labels where they are placed
    renderer, scale = canvas.get_renderer(), figure.dpi / 72
    inside = axes.get_window_extent(renderer)
    middles = [tuple(axes.transData.transform((label.x, label.y))) for label in labels]
    half = MARKER_POINTS * scale
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in middles]
    for line in lines:
        (x0, y0), (x1, y1) = (axes.transData.transform(end) for end in line)
        taken.append(
            Bbox.from_extents(min(x0, x1) - scale, min(y0, y1) - scale, max(x0, x1) + scale, max(y0, y1) + scale)
        )
    order = sorted(range(len(labels)), key=lambda k: (not labels[k].strong, middles[k]))
    for k in order:
        label = labels[k]
        written = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            color=label.color,
            fontsize=8.5 if label.strong else 7.5,
            fontweight="bold" if label.strong else "normal",
            zorder=5,
        )
        size = written.get_window_extent(renderer)
        best: tuple[float, float, float, Bbox] | None = None
        for dx, dy in _candidate_offsets(size.width / scale, size.height / scale):
            x, y = middles[k][0] + dx * scale, middles[k][1] + dy * scale
            box = Bbox.from_bounds(x - size.width / 2, y - size.height / 2, size.width, size.height)
            covered = (
                sum(_shared_area(box, other) for other in taken) + size.width * size.height - _shared_area(box, inside)
            )
            if best is None or covered < best[0] - 1e-6:
                best = (covered, dx, dy, box)
            if covered <= 1e-6:
                break
        assert best is not None
        _, dx, dy, box = best
        taken.append(box)
        written.set_position((dx, dy))
        gap = math.hypot(max(0, abs(dx) - size.width / scale / 2), max(0, abs(dy) - size.height / scale / 2))
        if gap > 2 * MARKER_POINTS:
            axes.annotate(
                "",
                (label.x, label.y),
                xytext=(dx, dy),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": label.color, "linewidth": 0.6, "shrinkA": 5, "shrinkB": 4},
                zorder=1,
            )


def _candidate_offsets(width: float, height: float) -> Iterator[tuple[float, float]]:
    """Yield offsets of the middle of a label from its point, in points, from near to far."""
    for away in (1, 4, 9, 16, 25, 36, 50):
        x, y = width / 2 + MARKER_POINTS + away, height / 2 + MARKER_POINTS + away
        yield from ((0, y), (x, 0), (0, -y), (-x, 0), (x * 0.8, y), (-x * 0.8, y), (x * 0.8, -y), (-x * 0.8, -y))


def _shared_area(a: Bbox, b: Bbox) -> float:
    """Return the area that two boxes share."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, width) * max(0.0, height)
