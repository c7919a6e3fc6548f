"""What a file may claim before anything is allocated for it."""

from __future__ import annotations

import math

from gossamer.data.image import MAX_FRAME_PIXELS
from gossamer.errors import ErrorCode, GossamerError

MAX_INFLATED_BYTES = 1 << 30


def check_frame(where: str, shape: tuple[int, ...]) -> None:
    """Refuse a frame whose header claims no pixels, or more of them than the limit.

    Args:
        where: the file, for the message.
        shape: ``(rows, columns)`` as the header states them.
    """
    if min(shape) < 1:
        raise GossamerError(
            ErrorCode.SYNTAX, where, f"a frame of {shape[0]}x{shape[1]} pixels", "export the image again"
        )
    if math.prod(shape) > MAX_FRAME_PIXELS:
        raise GossamerError(
            ErrorCode.LIMIT,
            where,
            f"claims {shape[0]}x{shape[1]} pixels, at most {MAX_FRAME_PIXELS} are read",
            "cut the image into tiles",
        )


def check_inflated(where: str, inflated: int) -> None:
    """Refuse a member that says it will inflate beyond the limit."""
    if inflated > MAX_INFLATED_BYTES:
        raise GossamerError(
            ErrorCode.LIMIT,
            where,
            f"inflates to {inflated} bytes, at most {MAX_INFLATED_BYTES} are read",
            "split the file",
        )
