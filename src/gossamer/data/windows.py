"""Sliding windows: an image of any size and a network of one size, in memory that grows with a row of windows.

Windows overlap, and the middle of a window has more weight than its border (a Gaussian, as in Isensee et al.,
"nnU-Net", Nature Methods 18:203, 2021). They are visited row by row; as soon as no further window can touch a row of
pixels, the row is final and is yielded, so that only one band of accumulated values exists at a time. A network is any
function of a batch of windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

BATCH = 16
"""Largest number of windows in a batch."""
_SIGMA = 0.125
_FAINTEST = 1e-3

Predict = Callable[[np.ndarray], np.ndarray]
"""Function of windows ``(batch, channels, rows, columns)`` to probabilities ``(batch, classes, rows, columns)``."""


class Band(NamedTuple):
    """Final values of some rows of some slices: ``(slices, classes, rows, columns)``."""

    slices: slice
    rows: slice
    values: np.ndarray


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis: evenly, with at least ``overlap`` of a window shared, to both ends."""
    if size <= window:
        return [0]
    step = max(1, math.floor(window * (1 - overlap)))
    count = math.ceil((size - window) / step) + 1
    return [round(index * (size - window) / (count - 1)) for index in range(count)]


def centred_start(size: int, window: int) -> int:
    """Return where the window in the middle of an axis begins; negative where the axis is shorter than the window."""
    room = size - window
    return room // 2 if room >= 0 else -(-room // 2)


def cut_window(planes: np.ndarray, corner: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
    """Return the window of ``(..., rows, columns)`` whose upper left corner is ``corner``; zeros outside the planes."""
    inside, places = [], []
    for low, side, size in zip(corner, window, planes.shape[-2:], strict=True):
        part = slice(max(low, 0), min(low + side, size))
        inside.append(part)
        places.append(slice(part.start - low, part.stop - low))
    cut = np.zeros((*planes.shape[:-2], *window), dtype=planes.dtype)
    cut[..., places[0], places[1]] = planes[..., inside[0], inside[1]]
    return cut


def add_neighbours(slices: np.ndarray, count: int) -> np.ndarray:
    """Return ``(slices, count * channels, rows, columns)``: each slice with its neighbours, the outermost repeated."""
    if count == 1:
        return slices
    around = _neighbour_numbers(np.arange(len(slices)), count, len(slices))
    return slices[around].reshape(len(slices), -1, *slices.shape[2:])


def slice_with_neighbours(slices: np.ndarray, number: int, count: int) -> np.ndarray:
    """Return one slice as ``add_neighbours`` does: ``(count * channels, rows, columns)``."""
    around = _neighbour_numbers(np.array(number), count, len(slices))
    return slices[around].reshape(-1, *slices.shape[2:])


def _neighbour_numbers(numbers: np.ndarray, count: int, total: int) -> np.ndarray:
    """Return the numbers of the ``count`` slices around each of ``numbers``, within ``total`` slices."""
    return np.clip(numbers[..., None] + np.arange(count) - count // 2, 0, total - 1)


def blend_bands(stack: np.ndarray, window: tuple[int, int], predict: Predict, overlap: float = 0.5) -> Iterator[Band]:
    """Yield the blended values of every slice in order, a band of final rows at a time.

    Args:
        stack: Slices, ``(slices, channels, rows, columns)``. A slice that is smaller than the window is put in the
            middle of zeros, which are cut away again.
        window: Size of the network's input, ``(rows, columns)``.
        predict: Network; it gets the same windows in the same batches on every machine.
        overlap: Smallest fraction of a window that neighbouring windows share (default: 0.5).
    """
    count, _, rows, columns = stack.shape
    down, across = window_starts(rows, window[0], overlap), window_starts(columns, window[1], overlap)
    before = [max(0, side - size) // 2 for side, size in zip(window, (rows, columns), strict=True)]
    size = (max(rows, window[0]), max(columns, window[1]))
    weights = _window_weights(window, single=(len(down) == 1, len(across) == 1))
    group = max(1, BATCH // len(across))
    for first in range(0, count, group):
        part = slice(first, min(first + group, count))
        members = part.stop - part.start
        sums = total = None
        for begin, following in pairwise([*down, size[0]]):
            corners = [(begin - before[0], column - before[1]) for column in across]
            windows = np.stack([cut_window(stack[i], at, window) for i in range(first, part.stop) for at in corners])
            windows = windows.astype(np.float32, copy=False)
            values = _predict_in_batches(predict, windows)
            if sums is None or total is None:
                sums = np.zeros((members, values.shape[1], window[0], size[1]), dtype=np.float32)
                total = np.zeros((window[0], size[1]), dtype=np.float32)
            for number, value in enumerate(values):
                member, column = divmod(number, len(across))
                at = slice(across[column], across[column] + window[1])
                sums[member, :, :, at] += value * weights
                if member == 0:
                    total[:, at] += weights
            final = min(following - begin, window[0])
            yield from _crop_band(part, begin, sums[:, :, :final] / total[:final], before, (rows, columns))
            sums, total = (np.roll(array, -final, axis=-2) for array in (sums, total))
            sums[:, :, window[0] - final :] = 0
            total[window[0] - final :] = 0


def _crop_band(
    part: slice, begin: int, values: np.ndarray, before: list[int], shape: tuple[int, int]
) -> Iterator[Band]:
    """Yield the rows and columns of a band that are inside the image, without the zeros around it."""
    first = max(begin - before[0], 0)
    last = min(begin - before[0] + values.shape[2], shape[0])
    if first < last:
        offset = first - (begin - before[0])
        inside = values[:, :, offset : offset + last - first, before[1] : before[1] + shape[1]]
        yield Band(part, slice(first, last), inside)


def _predict_in_batches(predict: Predict, windows: np.ndarray) -> np.ndarray:
    parts = [predict(windows[begin : begin + BATCH]) for begin in range(0, len(windows), BATCH)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _window_weights(window: tuple[int, int], *, single: tuple[bool, bool]) -> np.ndarray:
    """Return the weight of each pixel of a window; constant along an axis with a single window."""
    axes = []
    for side, alone in zip(window, single, strict=True):
        distance = (np.arange(side) - (side - 1) / 2) / (_SIGMA * side)
        axes.append(np.ones(side) if alone else np.maximum(np.exp(-0.5 * distance**2), _FAINTEST))
    return np.outer(*axes).astype(np.float32)
