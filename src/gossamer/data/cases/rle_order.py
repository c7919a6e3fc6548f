"""Order of run lengths, along rows or along columns, decided from the masks.

The text of a competition may state one order and its data use the other. On a picture that is not square the wrong
order shreds a mask: its perimeter, the sum of absolute differences of neighbours, becomes far larger. On a square one
the wrong order only transposes, and the remaining evidence is whether masks are inside the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gossamer.data.io import read_picture, rle
from gossamer.data.io.rle import ORDERS, Order
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes

ORDER_FILE = "rle_order.txt"
TELLING_RATIO = 0.9
"""A slice votes if the smaller perimeter is below this share of the larger one."""

_SETTLED_RATIO = 0.75
_OUTSIDE_RATIO, _OUTSIDE_SHARE = 0.5, 0.02


@dataclass(frozen=True)
class MarkedSlice:
    """A slice with run lengths.

    Attributes:
        picture: File of the picture.
        runs: Place of each text of run lengths, for messages, and the text.
    """

    picture: Path
    runs: Sequence[tuple[str, str]]


def settle_order(folder: Path, slices: Sequence[MarkedSlice]) -> tuple[Order, str]:
    """Return the order of run lengths, and a sentence that says how it was decided.

    ``rle_order.txt`` in ``folder`` takes precedence.

    Args:
        folder: Folder of the data set.
        slices: Annotated slices with long run lengths.

    Raises:
        GossamerError: ``E-LABEL`` for slices that contradict each other or do not tell, or a file with other content
            than ``rows`` or ``columns``; the error of decoding if no slice can be decoded.
    """
    stated = folder / ORDER_FILE
    if stated.is_file():
        for order in ORDERS:
            if read_bytes(stated).strip() == order.encode():
                return order, f"run lengths count along {order}, as {ORDER_FILE} says"
        raise GossamerError(ErrorCode.LABEL, stated, "is neither rows nor columns", "write one of the two words")
    if not slices:
        return "rows", "no slice has a mask, so the order of run lengths does not matter"
    votes, outside, refused = [], [], None
    for marked in slices:
        try:
            picture = read_picture(marked.picture).array
            masks = [_decode_union(marked, picture.shape[:2], order) for order in ORDERS]
        except GossamerError as error:
            refused = refused or error  # reading the study will report it again
            continue
        if picture.shape[0] != picture.shape[1]:
            votes.append([_measure_perimeter(mask) for mask in masks])
        else:
            body = _find_body(picture)
            outside.append([float((mask & ~body).sum()) / max(1, int(mask.sum())) for mask in masks])
    if refused is not None and not votes and not outside:
        raise refused
    if votes:
        return _decide_by_perimeter(folder, np.array(votes, dtype=np.float64))
    return _decide_by_body(folder, np.mean(outside, axis=0))


def _decide_by_perimeter(folder: Path, perimeters: np.ndarray) -> tuple[Order, str]:
    """Decide by ``(slices, 2)`` perimeters: all slices that vote must agree, and their sum by a clear margin."""
    telling = perimeters[perimeters.min(axis=1) < TELLING_RATIO * perimeters.max(axis=1)]
    winners = np.argmin(telling, axis=1)
    if len(telling) and np.all(winners == winners[0]):
        total = telling.sum(axis=0)
        order = ORDERS[winners[0]]
        if total.min() < _SETTLED_RATIO * total.max():
            ratio = total.max() / total.min()
            text = (
                f"run lengths count along {order}: the perimeter of the masks of {len(telling)} slices is {ratio:.1f}"
            )
            return order, f"{text} times as long the other way"
    rows = int((winners == 0).sum())
    raise _undecided_order(
        folder,
        f"the order of run lengths cannot be decided: of {len(perimeters)} slices that are not square {rows} say rows, "
        f"{len(telling) - rows} columns",
    )


def _decide_by_body(folder: Path, outside: np.ndarray) -> tuple[Order, str]:
    """Decide by the share of the masks that is outside the body in each order."""
    best = int(np.argmin(outside))
    low, high = outside[best], outside[1 - best]
    if low < _OUTSIDE_RATIO * high and high - low > _OUTSIDE_SHARE:
        text = f"{low:.1%} of the masks are outside the body, {high:.1%} the other way"
        return ORDERS[best], f"run lengths count along {ORDERS[best]}: {text}"
    raise _undecided_order(folder, "the order of run lengths cannot be decided: all annotated slices are square")


def _undecided_order(folder: Path, problem: str) -> GossamerError:
    remedy = f"draw a mask over its picture, and write rows or columns into {ORDER_FILE} in the folder"
    return GossamerError(ErrorCode.LABEL, folder, problem, remedy)


def _decode_union(marked: MarkedSlice, shape: tuple[int, int], order: Order) -> np.ndarray:
    return np.logical_or.reduce([rle.decode_rle(text, shape, order, where) for where, text in marked.runs])


def _measure_perimeter(mask: np.ndarray) -> int:
    framed = np.pad(mask, 1).astype(np.int8)
    return int(np.abs(np.diff(framed, axis=0)).sum() + np.abs(np.diff(framed, axis=1)).sum())


def _find_body(picture: np.ndarray) -> np.ndarray:
    """Return the pixels of the body: between the first and the last bright pixel of both the row and the column."""
    bright = picture > 0.15 * np.percentile(picture, 99)
    inside = np.ones(picture.shape, dtype=bool)
    for axis in (0, 1):
        for way in (slice(None), slice(None, None, -1)):
            turn = (way, slice(None)) if axis == 0 else (slice(None), way)
            inside &= np.logical_or.accumulate(bright[turn], axis=axis)[turn]
    return inside
