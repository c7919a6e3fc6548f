"""Slices with run lengths in one CSV: the layout of the UW-Madison GI Tract competition.

``train.csv`` has the columns ``id,class,segmentation``, one row for each class and slice; the slices are
``train/case1/case1_day0/scans/slice_0001_W_H_pw_ph.png`` with 16 bits. A study, one day of a case, is a volume.
Classes overlap, so each has its own mask. W and H of a name come in either order in practice: the shape is that of the
decoded picture. Whether run lengths count along rows or columns is decided from the masks (``rle_order``).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gossamer.data.cases.rle_order import MarkedSlice, settle_order
from gossamer.data.cases.studies import Study, find_studies, names_a_square
from gossamer.data.dataset import Sample
from gossamer.data.io import rle
from gossamer.data.io.rle import Order
from gossamer.data.io.table import read_table
from gossamer.data.label_map import LabelMap
from gossamer.data.segmentation import LabelledCase, SegmentationDataset
from gossamer.data.split import complete_splits, sort_samples
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import replace_atomically

TABLE, PICTURES = "train.csv", "train"
COLUMNS = ("id", "class", "segmentation")
_STUDIES_LOOKED_AT = 64


def is_rle_csv(path: Path) -> bool:
    """Return whether ``path`` holds a ``train.csv`` with these columns next to a folder ``train`` of studies."""
    table = path / TABLE
    if not path.is_dir() or not table.is_file() or not (path / PICTURES).is_dir():
        return False
    with table.open("rb") as file:
        header = file.readline(1000).decode("utf-8-sig", "replace")
    return {name.strip().strip('"').lower() for name in header.split(",")} >= set(COLUMNS)


def open_rle_csv(path: Path, seed: int, order: Order | None = None) -> SegmentationDataset:
    """Return the data set of slices and run lengths. Rows that contradict the pictures become its faults.

    Args:
        path: Folder.
        seed: Seed of the splits, which are drawn by case.
        order: Order of the run lengths (default: that in ``rle_order.txt``, or else decided from the masks).

    Raises:
        GossamerError: ``E-MISSING`` for missing pictures, columns or rows; ``E-LABEL`` for an order that cannot be
            decided.
    """
    found = find_studies(path / PICTURES)
    rows = _RunLengthRows(path / TABLE, {identity for study in found.values() for identity in study.slices})
    rows.read()
    annotated = {identity.rpartition("_slice_")[0] for identity in rows.runs}
    studies = {identity: study for identity, study in found.items() if identity in annotated}
    if not studies:
        raise rows.faults[0] if rows.faults else GossamerError(ErrorCode.MISSING, path, "has no rows", "add them")
    classes = tuple(sorted(rows.classes))
    reader = StudyReader(path / TABLE, studies, classes, rows.runs, order or "rows")
    settled, how = (order, "") if order else settle_order(path, _marked_slices(reader))
    samples = [
        Sample(study.id, tuple(map(classes.index, rows.classes_of(study))), "", study.case)
        for study in studies.values()
    ]
    decided, note = complete_splits(samples, seed, lambda sample: (bool(sample.labels),))
    texts = [how, note, *_note_observations(found, studies, rows)]
    return SegmentationDataset(
        source=str(path),
        layout="rle_csv",
        classes=classes,
        samples=sort_samples(decided),
        overlapping=True,
        volumes=True,
        normalize="slice",
        reader=StudyReader(path / TABLE, studies, classes, rows.runs, settled),
        faults=tuple(rows.faults),
        notes=tuple(Note(ErrorCode.LABEL, str(path), text) for text in texts if text),
    )


@dataclass
class _RunLengthRows:
    """Rows of the table, and the faults of those that contradict the pictures."""

    table: Path
    pictures: set[str]
    runs: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    faults: list[GossamerError] = field(default_factory=list)

    def read(self) -> None:
        table = read_table(self.table, needed=COLUMNS)
        self.faults += table.faults
        for row in table.rows:
            identity, label, text = (row.cells[column] for column in COLUMNS)
            known = self.runs.get(identity, {})
            if identity not in self.pictures:
                self._fault(
                    ErrorCode.MISSING, row.number, identity, "no slice has this id", "add the slice, or remove the row"
                )
            elif not label:
                self._fault(ErrorCode.LABEL, row.number, identity, "has no class", "fill the column")
            elif label in known:
                problem = f"{label!r} duplicates row {known[label][0]}"
                self._fault(ErrorCode.LABEL, row.number, identity, problem, "remove one of the rows")
            else:
                self.runs.setdefault(identity, {})[label] = (row.number, text)
                self.classes.add(label)

    def classes_of(self, study: Study) -> list[str]:
        """Return the classes that a slice of a study holds."""
        cells = [cell for identity in study.slices for cell in self.runs.get(identity, {}).items()]
        return sorted({label for label, (_, text) in cells if text})

    def _fault(self, code: ErrorCode, number: int, identity: str, problem: str, remedy: str) -> None:
        self.faults.append(GossamerError(code, self.table, f"row {number} ({identity}): {problem}", remedy))


@dataclass(frozen=True)
class StudyReader:
    """Reader of studies with their masks.

    Attributes:
        table: CSV file, for messages.
        studies: Studies by id.
        classes: Class names.
        runs: Row number and run lengths of each class of each slice.
        order: Order in which the run lengths count pixels.
    """

    table: Path
    studies: Mapping[str, Study]
    classes: tuple[str, ...]
    runs: Mapping[str, Mapping[str, tuple[int, str]]] = field(repr=False)
    order: Order

    def __call__(self, sample: Sample) -> LabelledCase:
        """Return the volume of a study and the masks of its slices."""
        study = self.studies[sample.id]
        image = study.read()
        planes = np.zeros((len(self.classes), *image.spatial_shape), dtype=bool)
        for index, identity in enumerate(study.slices):
            for label, (number, text) in self.runs.get(identity, {}).items():
                where = f"{self.table}: row {number} ({identity})"
                plane = rle.decode_rle(text, image.spatial_shape[1:], self.order, where)  # type: ignore[arg-type]
                planes[self.classes.index(label), index] = plane
        return LabelledCase(image, LabelMap(planes, self.classes, True, str(self.table)))


def _marked_slices(reader: StudyReader) -> list[MarkedSlice]:
    """Return the slice with most runs of up to 64 studies, spread over all."""
    chosen = []
    for study in reader.studies.values():
        lengths = {i: sum(len(text) for _, text in reader.runs.get(i, {}).values()) for i in study.slices}
        longest = max(lengths, key=lambda identity: lengths[identity])
        if lengths[longest]:
            runs = [(f"{reader.table}: row {row} ({longest})", text) for row, text in reader.runs[longest].values()]
            chosen.append(MarkedSlice(study.slices[longest], runs))
    # Only pictures that are not square tell the order with certainty. Names are a hint which of them these are.
    chosen = [marked for marked in chosen if not names_a_square(marked.picture.name)] or chosen
    step = max(1, math.ceil(len(chosen) / _STUDIES_LOOKED_AT))
    return chosen[::step]


def _note_observations(found: Mapping[str, Study], studies: Mapping[str, Study], rows: _RunLengthRows) -> Iterable[str]:
    left_out = sorted(set(found) - set(studies))
    if left_out:
        yield f"{len(left_out)} studies without a row are not used: {_list_few(left_out)}"
    blank = [identity for study in studies.values() for identity in study.slices if identity not in rows.runs]
    if blank:
        yield f"{len(blank)} slices without a row count as empty: {_list_few(blank)}"
    flat = [study.id for study in studies.values() if study.spacing_mm is None]
    if flat:
        yield f"the names of the slices do not state mm in {len(flat)} studies: {_list_few(flat)}"
    gaps = [study.id for study in studies.values() if _has_gap(list(study.slices))]
    if gaps:
        yield f"numbers of slices are missing in {len(gaps)} studies; the slices count as neighbours: {_list_few(gaps)}"


def _has_gap(identities: Sequence[str]) -> bool:
    numbers = [int(identity.rpartition("_")[2]) for identity in identities]
    return numbers[-1] - numbers[0] != len(numbers) - 1


def _list_few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def write_run_lengths(path: Path, cases: Iterable[tuple[Study, LabelMap]], order: Order = "rows") -> None:
    """Write predictions as ``id,class,predicted``, one row for each class and slice, all or nothing.

    Args:
        path: CSV file to write.
        cases: Studies with their masks ``(classes, slices, rows, columns)``, consumed one at a time.
        order: Order in which pixels are counted, as in the data set that the predictions are compared with (default:
            ``rows``).

    Raises:
        ValueError: Masks whose number of slices differs from that of the study.
        GossamerError: ``E-NOSPACE`` or ``E-OUTPUT``.
    """
    with replace_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "class", "predicted"])
        for study, labels in cases:
            for index, identity in enumerate(study.slices):
                for label, plane in zip(labels.classes, labels.planes, strict=True):
                    if len(plane) != len(study.slices):
                        raise ValueError(f"masks of {len(plane)} slices for the {len(study.slices)} of {study.id}")
                    writer.writerow([identity, label, rle.encode_rle(plane[index], order)])
