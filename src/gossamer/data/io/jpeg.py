"""JPEG: grey or RGB, 8 bits."""

from __future__ import annotations

import numpy as np

from gossamer.data.io.pillow import open_picture
from gossamer.errors import ErrorCode, GossamerError

SIGNATURE = b"\xff\xd8\xff"

_EXIF_ORIENTATION = 0x0112


def decode_jpeg(data: bytes, where: str) -> tuple[np.ndarray, int]:
    """Return the pixels, ``(rows, columns)`` or ``(rows, columns, 3)``, and the EXIF orientation 1..8.

    Raises:
        GossamerError: ``E-TRUNCATED``, ``E-SYNTAX``, ``E-LIMIT`` or ``E-UNSUPPORTED``.
    """
    with open_picture(data, "JPEG", where) as picture:
        if picture.mode not in ("L", "RGB"):
            problem = f"is a JPEG in {picture.mode}, grey or RGB is read"
            raise GossamerError(ErrorCode.UNSUPPORTED, where, problem, "convert it to RGB")
        return np.asarray(picture), picture.getexif().get(_EXIF_ORIENTATION, 1)
