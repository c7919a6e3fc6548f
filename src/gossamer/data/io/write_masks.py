"""Masks to files, in the geometry and the kind of file of the image that they belong to."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io.nifti import write_nifti_labels
from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import write_bytes

_COMPOUND = (".nii.gz",)
# Black, then colours that the colour-blind can tell apart (Okabe and Ito), again and again.
_COLOURS = ((86, 180, 233), (230, 159, 0), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178))
_PALETTE = [0, 0, 0, *(part for number in range(255) for part in _COLOURS[number % len(_COLOURS)])]


def mask_stem(name: str) -> str:
    """Return a file name without its suffix, ``.nii.gz`` as one."""
    for suffix in _COMPOUND:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def write_masks(labels: LabelMap, image: Image, folder: Path, name: str) -> list[Path]:
    """Write the masks of an image into ``folder`` and return the files.

    A volume becomes NIfTI with the place and order of the one it was read from. A picture becomes PNG, with a palette
    that makes the numbers visible, or TIFF where it was one. Classes that exclude each other are one file of class
    numbers, counted from 1; classes that may overlap are one file of 0 and 1 each, named ``<name>_<class>``.

    Args:
        labels: masks on the grid of the image.
        image: what they belong to.
        folder: it exists.
        name: of the image's file, with its suffix.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for a volume that was no NIfTI, ``E-OUTPUT`` where a file of that name is
            there, ``E-NOSPACE``.
    """
    stem = mask_stem(name)
    if labels.overlapping:
        named = zip(labels.classes, labels.planes, strict=True)
        parts = {f"{stem}_{label}": plane.astype(np.uint8) for label, plane in named}
    else:
        parts = {stem: labels.indices()}
    return [_write(indices, image, folder, part, name) for part, indices in parts.items()]


def _write(indices: np.ndarray, image: Image, folder: Path, stem: str, name: str) -> Path:
    stem = stem.replace("/", "-")
    if indices.ndim == 3:
        if image.geometry is None:
            raise GossamerError(
                ErrorCode.UNSUPPORTED, image.source, "is a volume without a place in space", "use NIfTI"
            )
        path = _free(folder / (stem + (".nii" if name.lower().endswith(".nii") else ".nii.gz")))
        write_nifti_labels(path, indices, image.geometry)
        return path
    tiff = name.lower().endswith((".tif", ".tiff"))
    path = _free(folder / (stem + (Path(name).suffix if tiff else ".png")))
    buffer = io.BytesIO()
    if tiff:
        import tifffile

        tifffile.imwrite(buffer, indices, photometric="minisblack", compression="deflate")
    else:
        from PIL import Image as PillowImage

        picture = PillowImage.fromarray(indices).convert("P")  # the values stay; colours make them visible
        picture.putpalette(bytes(_PALETTE))
        picture.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
    return path


def _free(path: Path) -> Path:
    if path.exists():
        problem = "is there already, of another image whose name and class make the same file name"
        raise GossamerError(ErrorCode.OUTPUT, path, problem, "rename one of the images")
    return path
