"""A CSV manifest: ``path,label[,patient,split]``, one row per image, several labels as ``a|b``.

Paths are relative to the manifest. A data set in which any row holds ``|`` or ``-`` is multi-label; ``-`` means that an
image has none of the labels, whereas an empty cell is a missing label.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gossamer.data.classification import ClassificationDataset
from gossamer.data.dataset import FileReader, Sample, patient_faults
from gossamer.data.io.table import read_table
from gossamer.data.split import SPLIT_NAMES, complete_splits, sort_samples
from gossamer.errors import ErrorCode, GossamerError, Note

COLUMNS = ("path", "label", "patient", "split")
NO_LABEL = "-"


def is_manifest(path: Path) -> bool:
    """Return whether ``path`` is a CSV file, or a folder with a ``manifest.csv``."""
    return path.suffix.lower() == ".csv" if path.is_file() else (path / "manifest.csv").is_file()


def open_manifest(path: Path, seed: int) -> ClassificationDataset:
    """Return the data set of a manifest. Rows that contradict each other become its faults."""
    table = path / "manifest.csv" if path.is_dir() else path
    rows, faults = _read_rows(table)
    multi_label = any("|" in row.label or row.label == NO_LABEL for row in rows)
    names = {row: _split_labels(row.label, multi_label) for row in rows}
    classes = tuple(sorted({name for row in rows for name in names[row]}))
    samples = [
        Sample(row.path, tuple(sorted(classes.index(name) for name in names[row])), row.split, row.patient or None)
        for row in rows
    ]
    partly = sorted({row.number for row in rows if not row.split}) if any(row.split for row in rows) else []
    if partly:
        faults.append(
            _row_error(table, partly[0], "has no split where other rows have one", "give every row a split, or none")
        )
    samples, decided = complete_splits([s for s in samples if s.split or not partly], seed)
    final = sort_samples(samples)
    return ClassificationDataset(
        source=str(path),
        layout="manifest",
        classes=classes,
        multi_label=multi_label,
        samples=final,
        reader=FileReader(table.parent),
        faults=(*faults, *patient_faults(str(table), final)),
        notes=(Note(ErrorCode.LABEL, str(table), decided),) if decided else (),
    )


@dataclass(frozen=True)
class _ManifestRow:
    number: int
    path: str
    label: str
    patient: str
    split: str


@dataclass
class _RowChecks:
    """Rows that were accepted so far, and the faults of others."""

    table: Path
    seen: dict[str, int] = field(default_factory=dict)
    faults: list[GossamerError] = field(default_factory=list)

    def accept(self, row: _ManifestRow) -> bool:
        if not row.path:
            self._add(row, "has no path", "fill the column, or remove the row")
        elif row.path in self.seen:
            self._add(row, f"{row.path!r} duplicates row {self.seen[row.path]}", "remove one of the rows")
        elif not row.label:
            self._add(row, f"{row.path!r} has no label", f"fill the column, or write {NO_LABEL!r} for no label")
        elif not (self.table.parent / row.path).is_file():
            problem = f"row {row.number}: {row.path!r} does not exist"
            self.faults.append(
                GossamerError(ErrorCode.MISSING, self.table, problem, "paths are relative to the manifest")
            )
            self.seen[row.path] = row.number
        else:
            self.seen[row.path] = row.number
            return True
        return False

    def _add(self, row: _ManifestRow, problem: str, remedy: str) -> None:
        self.faults.append(_row_error(self.table, row.number, problem, remedy))


def _read_rows(path: Path) -> tuple[list[_ManifestRow], list[GossamerError]]:
    table = read_table(path, needed=COLUMNS[:2], known=COLUMNS)
    checks, rows = _RowChecks(path, faults=list(table.faults)), []
    for cells in table.rows:
        row = _parse_row(path, cells.number, cells.cells)
        if checks.accept(row):
            rows.append(row)
    if not rows and not checks.faults:
        raise GossamerError(ErrorCode.MISSING, path, "has no rows", "add one row per image")
    return rows, checks.faults


def _parse_row(table: Path, number: int, cells: dict[str, str]) -> _ManifestRow:
    path, label, patient, split = (cells.get(column, "") for column in COLUMNS)
    if split and split.lower() not in SPLIT_NAMES:
        raise _row_error(table, number, f"split {split!r} is not train, val or test", "correct the row")
    return _ManifestRow(number, path, label, patient, SPLIT_NAMES.get(split.lower(), ""))


def _split_labels(cell: str, multi_label: bool) -> list[str]:
    if not multi_label:
        return [cell]
    return sorted({name.strip() for name in cell.split("|")} - {"", NO_LABEL})


def _row_error(table: Path, number: int, problem: str, remedy: str) -> GossamerError:
    return GossamerError(ErrorCode.LABEL, table, f"row {number} {problem}", remedy)
