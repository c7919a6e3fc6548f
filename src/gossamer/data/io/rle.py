"""Run lengths of a binary mask as text: ``start length start length ...``, starts counted from 1.

The convention of Kaggle's competitions. The text says neither the shape of the mask nor in which order its pixels are
counted, so both are arguments. The usual few lines that read it let numpy clip, wrap or broadcast a bad run without a
word; here every run is checked.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import numpy as np

from gossamer.errors import ErrorCode, GossamerError

Order = Literal["rows", "columns"]
"""Direction in which pixels are counted: along rows (row-major), or along columns (column-major)."""
ORDERS: tuple[Order, ...] = ("rows", "columns")

_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_MOST_DIGITS = 15


def decode_rle(text: str, shape: tuple[int, int], order: Order, where: str) -> np.ndarray:
    """Return the mask that ``text`` describes, bool ``(rows, columns)``; empty text is an empty mask.

    Runs may be in any order, and may touch.

    Args:
        text: Whole numbers separated by blanks.
        shape: Size of the picture, ``(rows, columns)``.
        order: Direction in which pixels are counted.
        where: File, row and id, for messages.

    Raises:
        GossamerError: ``E-LABEL`` for numbers that are not whole, an odd count of numbers, a start or a length below 1,
            a run beyond the picture, or runs that overlap.
    """
    starts, lengths = _parse_runs(text, shape, where)
    flat = np.zeros(math.prod(shape) + 1, dtype=np.int8)
    flat[starts - 1] += 1
    flat[starts - 1 + lengths] -= 1
    plane = np.cumsum(flat[:-1], dtype=np.int8).astype(bool)
    return plane.reshape(shape) if order == "rows" else plane.reshape(shape[::-1]).T


def encode_rle(plane: np.ndarray, order: Order) -> str:
    """Return the run lengths of a mask, bool ``(rows, columns)``: the fewest runs, ascending; ``""`` for none."""
    flat = np.asarray(plane, dtype=bool).ravel(order="C" if order == "rows" else "F")
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    return " ".join(map(str, np.stack([starts + 1, ends - starts], axis=1).ravel().tolist()))


def _parse_runs(text: str, shape: tuple[int, int], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending starts, counted from 1, and lengths of runs inside the picture that do not overlap."""
    words = text.split()
    for word in words:
        if not _WHOLE.fullmatch(word):
            problem = f"run lengths hold {word!r}, which is not a whole number"
            raise _label_error(where, problem, "correct the row; an empty field means no mask")
    if len(words) % 2:
        problem = f"run lengths hold {len(words)} numbers, an even number is needed"
        raise _label_error(where, problem, "correct the row; an empty field means no mask")
    pixels, size = math.prod(shape), f"{shape[0]}x{shape[1]}"
    for start, length in zip(words[::2], words[1::2], strict=True):
        if max(len(start), len(length)) > _MOST_DIGITS:
            problem = f"run {start[:24]!r} {length[:24]!r} is beyond the {pixels} pixels of {size}"
            raise _label_error(where, problem, "correct the row")
    pairs = np.array(words, dtype=object).astype(np.int64).reshape(-1, 2)
    starts, lengths = pairs[np.argsort(pairs[:, 0], kind="stable")].T
    ends = starts + lengths
    for wrong, reason in (
        ((starts < 1) | (lengths < 1), "starts are counted from 1, and lengths are 1 or more"),
        (ends - 1 > pixels, f"the picture of {size} has {pixels} pixels"),
        (np.diff(ends, prepend=1) < lengths, "it overlaps the run before it"),
    ):
        if wrong.any():
            first = int(np.argmax(wrong))
            problem = f"run {starts[first]} {lengths[first]}: {reason}"
            raise _label_error(where, problem, "correct the row, or check that it belongs to this picture")
    return starts, lengths


def _label_error(where: str, problem: str, remedy: str) -> GossamerError:
    return GossamerError(ErrorCode.LABEL, where, problem, remedy)
