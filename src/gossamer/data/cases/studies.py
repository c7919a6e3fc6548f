"""Studies of the UW-Madison GI Tract layout: the slices of a case on one day, found by their names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import read_picture
from gossamer.errors import ErrorCode, GossamerError

SLICE_MM = 3.0
"""Distance of the slices, which the text of the competition states and the files do not."""

_NAME = re.compile(
    r"slice_(?P<number>\d+)"
    r"(?:_(?P<width>\d+)_(?P<height>\d+)_(?P<column_mm>\d+(?:\.\d+)?)_(?P<row_mm>\d+(?:\.\d+)?))?\.png"
)


@dataclass(frozen=True)
class Study:
    """One day of a case: its slices in order.

    Attributes:
        id: Identifier, such as ``case1_day0``.
        case: Identifier of the patient.
        slices: Picture of each slice by slice id, in order.
        spacing_mm: Spacing along slices, rows and columns in mm, or None where the names do not state it.
    """

    id: str
    case: str
    slices: Mapping[str, Path]
    spacing_mm: tuple[float, float, float] | None

    def read(self) -> Image:
        """Return the volume, ``(slices, rows, columns)``.

        Raises:
            GossamerError: ``E-GEOMETRY`` for shapes that differ, ``E-VALUE`` for types that differ, ``E-UNSUPPORTED``
                for colours, and the errors of reading.
        """
        images = [read_picture(path) for path in self.slices.values()]
        first = images[0]
        for image in images:
            if image.channels > 1:
                raise GossamerError(ErrorCode.UNSUPPORTED, image.source, "has colours", "convert it to grey")
            if image.array.shape != first.array.shape:
                shapes = ["x".join(map(str, array.shape)) for array in (image.array, first.array)]
                problem = f"has {shapes[0]} pixels, the first slice of {self.id} has {shapes[1]}"
                raise GossamerError(ErrorCode.GEOMETRY, image.source, problem, "export the study on one grid")
            if image.array.dtype != first.array.dtype:
                problem = f"holds {image.array.dtype}, the first slice of {self.id} {first.array.dtype}"
                raise GossamerError(ErrorCode.VALUE, image.source, problem, "export the study in one type")
        notes = tuple(note for image in images for note in image.notes)
        folder = str(next(iter(self.slices.values())).parent)
        array = np.stack([image.array for image in images])
        return Image(array, ("slices", "rows", "columns"), folder, self.spacing_mm, notes)


def find_studies(folder: Path) -> dict[str, Study]:
    """Return the studies below ``folder`` by id: every folder ``<case>/<study>/scans`` that holds slices.

    Raises:
        GossamerError: ``E-MISSING`` for a folder without studies, ``E-GEOMETRY`` for slices of one study that state
            different spacings, ``E-LABEL`` for two slices with the same number.
    """
    studies = [_read_study(scans) for scans in sorted(folder.glob("*/*/scans")) if scans.is_dir()]
    found = {study.id: study for study in studies if study.slices}
    if not found:
        problem = "holds no <case>/<study>/scans/slice_<number>_<W>_<H>_<mm>_<mm>.png"
        raise GossamerError(ErrorCode.MISSING, folder, problem, "keep the folders as the competition has them")
    return found


def _read_study(scans: Path) -> Study:
    study, slices, spacings = scans.parent.name, {}, {}
    for path in sorted(scans.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        identity = f"{study}_slice_{match['number']}"
        if identity in slices:
            problem = f"has the same number as {slices[identity].name}"
            raise GossamerError(ErrorCode.LABEL, path, problem, "remove one of them")
        slices[identity] = path
        spacings[float(match["row_mm"] or 0), float(match["column_mm"] or 0)] = path
    if len(spacings) > 1:
        (a, b), path = list(spacings)[:2], list(spacings.values())[1]
        problem = f"states pixels of {b[1]:g}x{b[0]:g} mm, other slices of {study} {a[1]:g}x{a[0]:g} mm"
        raise GossamerError(ErrorCode.GEOMETRY, path, problem, "correct the names of the slices")
    row_mm, column_mm = next(iter(spacings), (0.0, 0.0))  # 0 means a name without mm
    known = all(math.isfinite(mm) and mm > 0 for mm in (row_mm, column_mm))
    return Study(study, scans.parent.parent.name, slices, (SLICE_MM, row_mm, column_mm) if known else None)


def names_a_square(name: str) -> bool:
    """Return whether the name of a slice states as many rows as columns; the picture may differ."""
    match = _NAME.fullmatch(name)
    return match is not None and match["width"] is not None and match["width"] == match["height"]
