"""CSV tables: UTF-8 with or without a byte order mark, one header, every row numbered for messages."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes


@dataclass(frozen=True)
class CsvRow:
    """One row of a table.

    Attributes:
        number: Number of its last line in the file, counted from 1.
        cells: Cell of each column, without surrounding blanks.
    """

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class CsvTable:
    """Content of a CSV file.

    Attributes:
        header: Names of the columns, in lower case.
        rows: Rows with one cell per column.
        faults: Faults of the other rows.
    """

    header: tuple[str, ...]
    rows: tuple[CsvRow, ...]
    faults: tuple[GossamerError, ...]


def read_table(path: Path, needed: Sequence[str] = (), known: Sequence[str] = ()) -> CsvTable:
    """Read a CSV file.

    Args:
        path: File.
        needed: Columns that must exist, in lower case (default: none).
        known: All columns that have a meaning, for the remedy (default: ``needed``).

    Raises:
        GossamerError: ``E-FORMAT`` for another encoding than UTF-8, ``E-SYNTAX`` for a wrong separator or quotes,
            ``E-MISSING`` for a missing column.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GossamerError(ErrorCode.FORMAT, path, f"is not UTF-8 ({error.reason})", "save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows, faults = [], []
    try:
        header = [name.strip().lower() for name in reader.fieldnames or []]
        if len(header) == 1 and ";" in header[0]:
            raise GossamerError(ErrorCode.SYNTAX, path, "the columns are separated by ';'", "separate them by commas")
        for column in needed:
            if column not in header:
                problem = f"has no column {column!r}; it has {', '.join(header) or 'none'}"
                raise GossamerError(ErrorCode.MISSING, path, problem, f"the columns are {','.join(known or needed)}")
        reader.fieldnames = header
        for cells in reader:
            if None in cells or any(value is None for value in cells.values()):
                problem = f"row {reader.line_num} does not have {len(header)} cells, as the header has"
                faults.append(GossamerError(ErrorCode.LABEL, path, problem, "quote cells that hold commas"))
            else:
                rows.append(CsvRow(reader.line_num, {name: value.strip() for name, value in cells.items()}))
    except csv.Error as error:
        raise GossamerError(ErrorCode.SYNTAX, path, f"row {reader.line_num}: {error}", "correct the row") from error
    return CsvTable(tuple(header), tuple(rows), tuple(faults))
