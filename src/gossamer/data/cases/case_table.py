"""A table next to the images with the patient, the split and the type of each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from gossamer.data.dataset import Sample
from gossamer.data.io.formats import drop_suffix
from gossamer.data.io.table import CsvRow, read_table
from gossamer.data.split import SPLIT_NAMES
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.summary import list_some

TABLES = ("index.csv", "manifest.csv")
SMALLEST_STRATUM = 10

_NAMES, _PATIENTS = ("image", "path", "id"), ("patient", "group")
_COLOURED = 10.0


@dataclass(frozen=True)
class CaseTable:
    """Samples with the patients and splits of the table.

    Attributes:
        samples: Samples in their original order, with patient and split.
        strata: Property of each sample id that every split should hold in proportion; empty where none is stated.
        faults: Rows that contradict the images.
        notes: Decisions that were made.
    """

    samples: tuple[Sample, ...]
    strata: Mapping[str, str]
    faults: tuple[GossamerError, ...] = ()
    notes: tuple[Note, ...] = ()

    def traits(self, sample: Sample) -> tuple[str, ...]:
        """Return the stratum of a sample, as ``complete_splits`` takes it."""
        return (self.strata.get(sample.id, ""),)


def read_case_table(folder: Path, samples: Sequence[Sample]) -> CaseTable:
    """Look for ``index.csv`` or ``manifest.csv`` in ``folder`` and match its rows with ``samples``.

    Columns are ``image``, ``id`` or ``path``; ``patient`` or ``group``; ``split``; and ``width``, ``height`` and
    ``saturation`` (colourfulness, 0 to 255), which tell types of pictures apart. A split that folders state is kept.

    Raises:
        GossamerError: ``E-LABEL`` for an unknown split, and the errors of ``read_table``.
    """
    path = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if path is None:
        return CaseTable(tuple(samples), {})
    table = read_table(path)
    name = next((column for column in _NAMES if column in table.header), None)
    if name is None:
        text = f"is not used: it has none of the columns {', '.join(_NAMES)}"
        return CaseTable(tuple(samples), {}, notes=(Note(ErrorCode.LABEL, str(path), text),))
    known = _index_by_name(samples)
    rows: dict[str, CsvRow] = {}
    faults = list(table.faults)
    for row in table.rows:
        found = known.get(drop_suffix(row.cells[name]))
        if found is None:
            problem = f"row {row.number}: {row.cells[name]!r} is not one of the images"
            faults.append(GossamerError(ErrorCode.MISSING, path, problem, "add the image, or remove the row"))
        elif found in rows:
            problem = f"row {row.number}: {row.cells[name]!r} duplicates row {rows[found].number}"
            faults.append(GossamerError(ErrorCode.LABEL, path, problem, "remove one of the rows"))
        else:
            rows[found] = row
    completed = tuple(_complete_sample(path, sample, rows.get(sample.id)) for sample in samples)
    faults += _find_gaps(path, samples, completed, rows, table.header)
    return CaseTable(completed, _name_strata(rows), tuple(faults))


def _complete_sample(path: Path, sample: Sample, row: CsvRow | None) -> Sample:
    if row is None:
        return sample
    patient = next((row.cells[column] for column in _PATIENTS if row.cells.get(column)), sample.patient)
    split = row.cells.get("split", "").lower()
    if split and split not in SPLIT_NAMES:
        problem = f"row {row.number}: split {split!r} is not train, val or test"
        raise GossamerError(ErrorCode.LABEL, path, problem, "correct the row")
    return replace(sample, patient=patient, split=sample.split or SPLIT_NAMES.get(split, ""))


def _find_gaps(
    path: Path,
    before: Sequence[Sample],
    after: Sequence[Sample],
    rows: Mapping[str, CsvRow],
    header: Sequence[str],
) -> list[GossamerError]:
    """Return a fault for images that lack a property which the table states for others."""
    if not {*_PATIENTS, "split"} & set(header):
        return []
    missing = [sample.id for sample in before if sample.id not in rows]
    if missing:
        problem = f"has no row for {list_some([repr(name) for name in missing], 1)}"
        return [GossamerError(ErrorCode.LABEL, path, problem, "add a row for every image")]
    open_ones = [sample.id for sample in after if not sample.split]
    if open_ones and len(open_ones) < len(after):
        problem = f"row {rows[open_ones[0]].number} has no split where other rows have one"
        return [GossamerError(ErrorCode.LABEL, path, problem, "give every row a split, or none")]
    return []


def _name_strata(rows: Mapping[str, CsvRow]) -> dict[str, str]:
    """Return the type of each picture by size and colour; rare types are one type."""
    kinds = {identity: _name_stratum(row) for identity, row in rows.items()}
    counts = Counter(kinds.values())
    return {identity: kind if counts[kind] >= SMALLEST_STRATUM else "" for identity, kind in kinds.items()}


def _name_stratum(row: CsvRow) -> str:
    if not row.cells.get("width") or not row.cells.get("height"):
        return ""
    try:
        coloured = float(row.cells.get("saturation") or 0) > _COLOURED
    except ValueError:
        coloured = False
    return f"{row.cells['height']}x{row.cells['width']}{' coloured' if coloured else ''}"


def _index_by_name(samples: Sequence[Sample]) -> dict[str, str]:
    """Return the sample id of each name: the path, or its last parts where no other path ends with them."""
    ids: dict[str, set[str]] = {}
    for sample in samples:
        parts = PurePosixPath(drop_suffix(sample.id)).parts
        for start in range(len(parts)):
            ids.setdefault("/".join(parts[start:]), set()).add(sample.id)
    return {name: found.pop() for name, found in ids.items() if len(found) == 1}
