"""Limits on the sizes that a file states, checked before memory is allocated."""

from __future__ import annotations

import math

from gossamer.data.image import MAX_FRAME_PIXELS
from gossamer.errors import ErrorCode, GossamerError

MAX_INFLATED_BYTES = 1 << 30


def check_frame(where: str, shape: tuple[int, ...]) -> None:
    """Raise for a frame without pixels, or with more pixels than the limit.

    Args:
        where: File, for the message.
        shape: Stated ``(rows, columns)``.

    Raises:
        GossamerError: ``E-SYNTAX`` or ``E-LIMIT``.
    """
    if min(shape) < 1:
        raise GossamerError(ErrorCode.SYNTAX, where, f"states {shape[0]}x{shape[1]} pixels", "export the image again")
    if math.prod(shape) > MAX_FRAME_PIXELS:
        raise GossamerError(
            ErrorCode.LIMIT,
            where,
            f"states {shape[0]}x{shape[1]} pixels, at most {MAX_FRAME_PIXELS} are read",
            "cut the image into tiles",
        )


def check_inflated(where: str, inflated: int) -> None:
    """Raise for data that inflate to more bytes than the limit.

    Args:
        where: File or member, for the message.
        inflated: Number of bytes.

    Raises:
        GossamerError: ``E-LIMIT``.
    """
    if inflated > MAX_INFLATED_BYTES:
        raise GossamerError(
            ErrorCode.LIMIT,
            where,
            f"inflates to {inflated} bytes, at most {MAX_INFLATED_BYTES} are read",
            "split the file",
        )
