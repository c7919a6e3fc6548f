"""JPEG: grey or RGB, 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io.pictures import make_picture
from gossamer.data.io.pillow import open_picture
from gossamer.errors import ErrorCode, GossamerError

SIGNATURE = b"\xff\xd8\xff"

_EXIF_ORIENTATION = 0x0112


def read_jpeg(path: Path, data: bytes, *, labels: bool, channels: bool) -> Image:
    """Return the picture in a JPEG file.

    Raises:
        GossamerError: ``E-TRUNCATED``, ``E-SYNTAX``, ``E-LIMIT`` or ``E-UNSUPPORTED``.
    """
    with open_picture(data, "JPEG", str(path)) as picture:
        if picture.mode not in ("L", "RGB"):
            problem = f"is a JPEG in {picture.mode}, grey or RGB is read"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, "convert it to RGB")
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
        return make_picture(np.asarray(picture), path, labels=labels, orientation=orientation)
