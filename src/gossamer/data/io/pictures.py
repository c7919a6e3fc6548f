"""What pictures of all formats have in common: opacity, orientation, and masks stored as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.errors import ErrorCode, GossamerError, Note


def make_picture(
    array: np.ndarray,
    path: Path,
    *,
    labels: bool,
    has_alpha: bool = False,
    orientation: int = 1,
    notes: Sequence[Note] = (),
) -> Image:
    """Return stored pixels as an upright ``Image`` without opacity.

    Args:
        array: Stored pixels, ``(rows, columns)`` or ``(rows, columns, samples)``.
        path: File, for messages.
        labels: Whether the values are class or instance numbers.
        has_alpha: Whether the last sample of a pixel is opacity (default: False).
        orientation: Orientation of the tag EXIF 0x0112 or TIFF 274, 1 to 8 (default: 1, upright).
        notes: Notes of the decoder (default: none).

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for other than 1 or 3 samples a pixel, or a mask in colours; ``E-LABEL`` for a
            mask whose values are not whole numbers from 0.
    """
    where, notes = str(path), list(notes)
    if has_alpha:
        array, dropped = _drop_alpha(array, where)
        notes += dropped
    if array.ndim == 3 and array.shape[-1] != 3:
        problem = f"has {array.shape[-1]} samples a pixel, 1 or 3 are read"
        raise GossamerError(ErrorCode.UNSUPPORTED, where, problem, "convert it to grey or RGB")
    if orientation in range(2, 9):
        array = _turn_upright(array, orientation)
        notes.append(Note(ErrorCode.GEOMETRY, where, f"orientation {orientation} of its tag applied"))
    axes = ("rows", "columns") if array.ndim == 2 else ("rows", "columns", "channels")
    image = Image(array, axes, source=where, notes=tuple(notes))
    return _as_labels(image) if labels else image


def _drop_alpha(array: np.ndarray, where: str) -> tuple[np.ndarray, list[Note]]:
    colours = array[..., 0] if array.shape[-1] == 2 else array[..., :-1]
    if np.all(array[..., -1] == np.iinfo(array.dtype).max):
        return colours, []
    return colours, [Note(ErrorCode.VALUE, where, "partly transparent; opacity is ignored")]


def _turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror the stored pixels as the orientation tag says."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    flip_rows, flip_columns = {
        2: (False, True), 3: (True, True), 4: (True, False), 5: (False, False),
        6: (False, True), 7: (True, True), 8: (True, False),
    }[orientation]  # fmt: skip
    return array[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _as_labels(image: Image) -> Image:
    """Return a picture of class or instance numbers with one channel of unsigned numbers."""
    array, notes = image.array, image.notes
    if array.ndim == 3:
        if not np.all(array == array[..., :1]):
            example = tuple(array[array.any(axis=-1)][0].tolist())
            problem = f"is a mask in colours, such as {example}"
            remedy = "save the number of the class of each pixel, as grey or palette"
            raise GossamerError(ErrorCode.UNSUPPORTED, image.source, problem, remedy)
        array = array[..., 0]
        notes = (*notes, Note(ErrorCode.VALUE, image.source, "three equal channels, read as one"))
    return replace(image, array=_to_unsigned(array, image.source), axes=("rows", "columns"), notes=notes)


def _to_unsigned(array: np.ndarray, source: str) -> np.ndarray:
    """Return the values as unsigned numbers; 1-bit TIFF gives booleans."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "u":
        return array
    wrong = ~((array >= 0) & (array < 2**32)) | (array != np.floor(array))
    if wrong.any():
        problem = f"holds the value {array[wrong][0]}, a mask holds whole numbers from 0"
        raise GossamerError(ErrorCode.LABEL, source, problem, "save the number of the class of each pixel")
    return array.astype(np.uint32)
