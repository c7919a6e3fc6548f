"""PNG, JPEG and TIFF to ``Image``: one picture, values as stored, orientation applied once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import jpeg, png, tiff
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_bytes

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

_SUFFIXES = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff")}


def read_image(path: Path | str) -> Image:
    """Read a PNG, JPEG or TIFF file.

    The file is read once and recognised by content. Grey images have axes ``(rows, columns)``, colour images
    ``(rows, columns, channels)`` with three channels; the type is the file's own, so 16 bits stay 16 bits. Opacity is
    dropped and an orientation tag applied, each with a note. Pixels have no spacing: what a raster file calls
    resolution is that of a print.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT``, ``E-TRUNCATED``, ``E-INTEGRITY``, ``E-SYNTAX``, ``E-LIMIT``,
            ``E-UNSUPPORTED`` or ``E-CODEC``.
    """
    path = Path(path)
    return decode_raster(read_bytes(path), path)


def decode_raster(data: bytes, path: Path, *, indices: bool = False) -> Image:
    """Return the picture in ``data``, the content of ``path``, as ``read_image`` does.

    Args:
        data: the whole file.
        path: its name, for messages.
        indices: keep stored values where a palette or an inverted polarity says how to show them, as masks need.
    """
    where = str(path)
    kind = _recognise(data, where)
    notes: list[Note] = []
    if path.suffix.lower() not in _SUFFIXES[kind]:
        notes.append(Note(ErrorCode.FORMAT, where, f"is a {kind} by content; read as one"))
    orientation = 1
    if kind == "PNG":
        array, header = png.decode_png(data, where, indices=indices)
        has_alpha = header.has_alpha
    elif kind == "JPEG":
        array, orientation = jpeg.decode_jpeg(data, where)
        has_alpha = False
    else:
        array, orientation, decided = tiff.decode_tiff(data, where, indices=indices)
        has_alpha = array.ndim == 3 and array.shape[-1] in (2, 4)
        notes += decided
    if has_alpha:
        array, dropped = _drop_alpha(array, where)
        notes += dropped
    if array.ndim == 3 and array.shape[-1] != 3:
        problem = f"has {array.shape[-1]} samples a pixel, 1 or 3 are read"
        raise GossamerError(ErrorCode.UNSUPPORTED, where, problem, "convert it to grey or RGB")
    if orientation in range(2, 9):
        array = _upright(array, orientation)
        notes.append(Note(ErrorCode.GEOMETRY, where, f"orientation {orientation} of its tag applied"))
    axes = ("rows", "columns") if array.ndim == 2 else ("rows", "columns", "channels")
    return Image(array, axes, source=where, notes=tuple(notes))


def _recognise(data: bytes, where: str) -> str:
    if data.startswith(png.SIGNATURE):
        return "PNG"
    if data.startswith(jpeg.SIGNATURE):
        return "JPEG"
    if data.startswith(tiff.SIGNATURES):
        return "TIFF"
    if not data:
        raise GossamerError(ErrorCode.TRUNCATED, where, "is empty", "copy the file again")
    problem = f"begins with {data[:8]!r}, which is neither PNG, JPEG nor TIFF"
    raise GossamerError(ErrorCode.FORMAT, where, problem, "remove or convert it")


def _drop_alpha(array: np.ndarray, where: str) -> tuple[np.ndarray, list[Note]]:
    colours = array[..., 0] if array.shape[-1] == 2 else array[..., :-1]
    if np.all(array[..., -1] == np.iinfo(array.dtype).max):
        return colours, []
    return colours, [Note(ErrorCode.VALUE, where, "partly transparent; opacity is ignored")]


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror the stored pixels so that they show as the tag (EXIF 0x0112, TIFF 274) means."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    flip_rows, flip_columns = {
        2: (False, True), 3: (True, True), 4: (True, False), 5: (False, False),
        6: (False, True), 7: (True, True), 8: (True, False),
    }[orientation]  # fmt: skip
    return array[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
