"""Pictures whose values are classes or instances, not brightness: PNG and TIFF, values as stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import jpeg
from gossamer.data.io.raster import decode_raster
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_bytes

MASK_SUFFIXES = (".png", ".tif", ".tiff")


def read_mask(path: Path | str) -> Image:
    """Read a PNG or TIFF whose pixels are whole numbers from 0: a label map, a binary mask, or instance numbers.

    The values are those stored: the indices of a palette, never its colours; 0 and 1 for one bit; 8, 16 and 32 bits
    as they are. A picture with three equal channels counts as one channel, with a note.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for colours or JPEG, ``E-LABEL`` for values that are negative or no whole
            numbers, and what ``read_image`` raises.
    """
    path = Path(path)
    data = read_bytes(path)
    if data.startswith(jpeg.SIGNATURE):
        problem = "is a JPEG, whose compression changes the values of a mask"
        raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, "export it as PNG from its source")
    image = decode_raster(data, path, indices=True)
    array, notes = image.array, image.notes
    if array.ndim == 3:
        if not np.all(array == array[..., :1]):
            problem = f"is a mask in colours, such as {tuple(array[array.any(axis=-1)][0].tolist())}"
            raise GossamerError(
                ErrorCode.UNSUPPORTED, path, problem, "save the number of the class of each pixel, as grey or palette"
            )
        array = array[..., 0]
        notes = (*notes, Note(ErrorCode.VALUE, str(path), "three equal channels, read as one"))
    return replace(image, array=_whole(array, path), axes=("rows", "columns"), notes=notes)


def _whole(array: np.ndarray, path: Path) -> np.ndarray:
    """Return the values as unsigned numbers; 1-bit TIFF comes as booleans."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "u":
        return array
    wrong = ~((array >= 0) & (array < 2**32)) | (array != np.floor(array))
    if wrong.any():
        problem = f"holds the value {array[wrong][0]}, a mask holds whole numbers from 0"
        raise GossamerError(ErrorCode.LABEL, path, problem, "save the number of the class of each pixel")
    return array.astype(np.uint32)
