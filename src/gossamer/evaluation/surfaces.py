"""Distances between the surfaces of two masks, exactly and in numpy alone.

The nearest surface point is searched line by line. Two sweeps along one axis give the distance to the next surface
point within each line; the lines around a point are then visited from the nearest on, until no further line can hold a
nearer point. Masks that agree well need a few lines each. Points farther away than some hundred lines are found by a
distance transform.
"""

from __future__ import annotations

import numpy as np

_PERCENTILE = 95
_LINES = 256
"""Number of lines around a point that are looked up before it counts as far away."""
_BLOCK = 1 << 16
"""Number of lines looked up at once."""


def surface_metrics(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    """Return the 95th percentile Hausdorff distance and the surface Dice of two masks.

    Args:
        predicted: Mask ``(rows, columns)`` or ``(slices, rows, columns)`` with at least one pixel set.
        truth: Mask of the same shape with at least one pixel set.
        spacing: Distance of neighbouring pixels along each axis, in mm or pixels.
        tolerance: Largest distance at which two surfaces agree, in the unit of ``spacing``.
    """
    box = _bounding_box(predicted | truth)
    edges = [find_edges(mask[box]) for mask in (predicted, truth)]
    there, back = (nearest_distances(edges[first], edges[1 - first], spacing) for first in (0, 1))
    hausdorff = max(float(np.percentile(distances, _PERCENTILE)) for distances in (there, back))
    agreeing = sum(int((distances <= np.float32(tolerance)).sum()) for distances in (there, back))
    return hausdorff, agreeing / (there.size + back.size)


def find_edges(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask with a neighbour across a face that is not in it, or outside of the grid."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        forward = np.moveaxis(inner, axis, 0)
        whole = np.moveaxis(mask, axis, 0)
        forward[:-1] &= whole[1:]
        forward[1:] &= whole[:-1]
        forward[[0, -1]] = False
    return mask & ~inner


def nearest_distances(edges: np.ndarray, others: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return the distance of each point of ``edges`` to the nearest point of ``others``, float32.

    Args:
        edges: Points as a bool array of two or three axes.
        others: Points on the same grid, at least one.
        spacing: Distance of neighbouring points along each axis.
    """
    if edges.ndim == 2:
        edges, others, spacing = edges[None], others[None], (1.0, *spacing)
    last = int(np.argmin(spacing[-2:])) - 2 if edges.shape[0] == 1 else int(np.argmin(spacing))
    edges, others = (np.moveaxis(array, last, 2) for array in (edges, others))
    fine = spacing[last]
    coarse = [step for axis, step in enumerate(spacing) if axis != last % 3]
    gaps = _gaps_along_lines(others)
    count, rows, columns = edges.shape
    slices, row, column = np.nonzero(edges)
    offsets, costs = _line_offsets((count, rows), coarse)
    nearest = np.full(len(column), np.inf)
    active = np.arange(len(column))
    begin = 0
    while active.size and begin < len(costs):
        part = slice(begin, begin + max(1, _BLOCK // active.size))
        # A line outside of the grid is replaced by the one at the border, which is nearer than its cost says.
        line = np.clip(slices[active, None] + offsets[part, 0], 0, count - 1) * rows
        line += np.clip(row[active, None] + offsets[part, 1], 0, rows - 1)
        gap = gaps.reshape(-1)[line * columns + column[active, None]]
        squares = np.where(gap < columns, np.square(gap * fine), np.inf) + costs[part]
        nearest[active] = np.minimum(nearest[active], squares.min(axis=1))
        begin = part.stop
        if begin < len(costs):
            active = active[nearest[active] > costs[begin]]
    if active.size and len(costs) == _LINES:
        points = (slices[active], row[active], column[active])
        nearest[active] = _far_squares(gaps, points, (coarse[0], coarse[1], fine))
    return np.sqrt(nearest).astype(np.float32)


def _far_squares(
    gaps: np.ndarray, points: tuple[np.ndarray, np.ndarray, np.ndarray], steps: tuple[float, float, float]
) -> np.ndarray:
    """Return the squared distance of points that are far away, from the distances within every slice around them.

    Args:
        gaps: Steps of each place to the nearest surface point of its line, ``(slices, rows, columns)``.
        points: Numbers of the slice, row and column of each point.
        steps: Distance of neighbouring places along each axis.
    """
    slices, row, column = points
    used, place = np.unique(column, return_inverse=True)
    lines = np.moveaxis(gaps[:, :, used], 1, 0).reshape(gaps.shape[1], -1)
    # Finite, so that differences are numbers, and farther than any distance on the grid.
    far = 4.0 * sum((size * step) ** 2 for size, step in zip(gaps.shape, steps, strict=True)) + 1.0
    squares = np.where(lines < gaps.shape[2], np.square(lines * steps[2]), far)
    planes = _spread_squares(squares, steps[1]).reshape(gaps.shape[1], len(gaps), len(used))
    between = np.square((slices[:, None] - np.arange(len(gaps))) * steps[0])
    return (planes[row, :, place] + between).min(axis=1)


def _spread_squares(squares: np.ndarray, step: float) -> np.ndarray:
    """Return the smallest ``squares[other] + (step * (place - other)) ** 2`` of each place of the first axis.

    It is the lower envelope of a parabola for each place (Felzenszwalb and Huttenlocher, "Distance transforms of
    sampled functions", Theory of Computing 8:415, 2012), for all lines of the second axis at once.
    """
    length, lines = squares.shape
    raised = squares / step**2 + np.square(np.arange(length, dtype=float))[:, None]
    vertex = np.zeros((length, lines), dtype=np.int32)
    start = np.full((length, lines), -np.inf)
    top = np.zeros(lines, dtype=np.int32)
    for place in range(1, length):
        todo = np.arange(lines)
        while todo.size:
            last = vertex[top[todo], todo]
            crossing = (raised[place, todo] - raised[last, todo]) / (2.0 * (place - last))
            hidden = crossing <= start[top[todo], todo]
            kept = todo[~hidden]
            top[kept] += 1
            vertex[top[kept], kept] = place
            start[top[kept], kept] = crossing[~hidden]
            todo = todo[hidden]
            top[todo] -= 1
    result = np.empty_like(squares)
    current, everyone = np.zeros(lines, dtype=np.int32), np.arange(lines)
    for place in range(length):
        todo = everyone
        while todo.size:
            following = np.minimum(current[todo] + 1, top[todo])
            todo = todo[(following > current[todo]) & (start[following, todo] < place)]
            current[todo] += 1
        other = vertex[current, everyone]
        result[place] = squares[other, everyone] + np.square(step * (place - other))
    return result


def _gaps_along_lines(points: np.ndarray) -> np.ndarray:
    """Return how many steps each place of the last axis is from the nearest point of its line.

    A line without points has values of at least its length.
    """
    length = points.shape[-1]
    places = np.arange(length, dtype=np.int16 if length < 1 << 13 else np.int32)
    far = places.dtype.type(2 * length)
    before = np.maximum.accumulate(np.where(points, places, -far), axis=-1)
    gaps = np.subtract(places, before, out=before)
    after = np.minimum.accumulate(np.where(points, places, far + places[-1])[..., ::-1], axis=-1)[..., ::-1]
    return np.minimum(gaps, after - places)


def _line_offsets(lines: tuple[int, int], steps: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest offsets between lines ``(offsets, 2)`` with their squared distances, in their order."""
    first, second = (np.arange(1 - size, size) for size in lines)
    costs = np.add.outer(np.square(first * steps[0]), np.square(second * steps[1])).reshape(-1)
    order = np.argsort(costs, kind="stable")[:_LINES]
    offsets = np.stack(np.divmod(order, len(second)), axis=1) - (lines[0] - 1, lines[1] - 1)
    return offsets, costs[order]


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around a mask, one pixel wider on every side that has room, so that edges stay edges."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, int(found[0]) - 1), int(found[-1]) + 2))
    return tuple(box)
