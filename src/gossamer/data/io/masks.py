"""Masks to files, in the geometry and the format of the image that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io.formats import FORMATS, Format, split_suffix
from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError


def write_masks(labels: LabelMap, image: Image, folder: Path, name: str) -> list[Path]:
    """Write the masks of an image into ``folder`` and return the files.

    The format is that of the image where it can hold masks; else a volume becomes NIfTI, with the place and order of
    the image, and a picture becomes PNG, with a palette that makes the numbers visible. Classes that exclude each other
    are one file of class numbers, counted from 1; classes that may overlap are one file of 0 and 1 each, named
    ``<name>_<class>``.

    Args:
        labels: Masks on the grid of the image.
        image: Image that the masks belong to.
        folder: Existing folder.
        name: Name of the image's file, with its suffix.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for a volume without a place in space, ``E-OUTPUT`` where a file of that name
            exists, ``E-NOSPACE``.
    """
    stem, suffix = split_suffix(name)
    if labels.overlapping:
        named = zip(labels.classes, labels.planes, strict=True)
        parts = {f"{stem}_{label}": plane.astype(np.uint8) for label, plane in named}
    else:
        parts = {stem: labels.indices()}
    return [_write_part(indices, image, folder / part.replace("/", "-"), suffix) for part, indices in parts.items()]


def _write_part(indices: np.ndarray, image: Image, stem: Path, suffix: str) -> Path:
    chosen, suffix = _choose_format(suffix, is_volume=indices.ndim == 3)
    path = stem.with_name(stem.name + suffix)
    if path.exists():
        problem = "exists already: another image has a name and class that make the same file name"
        raise GossamerError(ErrorCode.OUTPUT, path, problem, "rename one of the images")
    assert chosen.write is not None
    chosen.write(path, indices, image)
    return path


def _choose_format(suffix: str, *, is_volume: bool) -> tuple[Format, str]:
    """Return the format of a mask and its suffix: those of the image if it can hold masks, else the first that can."""
    able = [format for format in FORMATS if format.mask_suffixes and format.is_volume == is_volume]
    own = next((format for format in able if suffix.lower() in format.mask_suffixes), None)
    return (able[0], able[0].mask_suffixes[0]) if own is None else (own, suffix)
