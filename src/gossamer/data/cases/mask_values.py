"""Meaning of the values of a mask: classes, or instances of one class.

A mask is a picture of numbers; ``classes.json`` may name them. Without it, the values themselves decide, with a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_json

NAMES_FILE = "classes.json"
FOREGROUND = "foreground"
MOST_CLASSES = 20
LARGEST_CLASS_VALUE = 32
ANY_VALUE = "*"

_EXAMPLE = 'such as {"1": "nucleus"}'


@dataclass(frozen=True)
class MaskValues:
    """The classes of the values of a mask; 0 is the background.

    Attributes:
        classes: Class names.
        known: Index of the class of each value that has a name.
        counted: Whether the values are instance numbers instead: every value above 0 belongs to the single class.
        note: Decision that was made, or None where the data state the meaning.
    """

    classes: tuple[str, ...]
    known: Mapping[int, int] = field(default_factory=dict)
    counted: bool = False
    note: str | None = None

    def label_map(self, values: np.ndarray, source: str) -> LabelMap:
        """Return the classes of an array of values.

        Raises:
            GossamerError: ``E-LABEL`` for a value without a name.
        """
        if self.counted:
            return LabelMap((values > 0)[None], self.classes, False, source)
        planes = np.zeros((len(self.classes), *values.shape), dtype=bool)
        for value in np.unique(values[values > 0]).tolist():
            if value not in self.known:
                names = ", ".join(f"{known} ({self.classes[number]})" for known, number in sorted(self.known.items()))
                problem = f"holds the value {value}, which has no name; known are 0 (background), {names}"
                raise GossamerError(ErrorCode.LABEL, source, problem, f"correct the mask, or name it in {NAMES_FILE}")
            planes[self.known[value]] |= values == value
        return LabelMap(planes, self.classes, False, source)


def decide_values(values: Iterable[int], *, eight_bits: bool) -> MaskValues:
    """Return the meaning of values without names.

    {0, 1} and {0, 255} are one class. A few small values of 8 bits are classes. Anything else is instance numbers of
    one class: classes rarely need 16 bits, and large values come from counting.

    Args:
        values: Values that occur, with or without 0.
        eight_bits: Whether they are stored in at most 8 bits.
    """
    found = sorted({int(value) for value in values} - {0})
    if found in ([], [1], [255]):
        return MaskValues((FOREGROUND,), dict.fromkeys(found or [1, 255], 0))
    if eight_bits and len(found) <= MOST_CLASSES and found[-1] <= LARGEST_CLASS_VALUE:
        note = f"values {_list_values(found)} of the masks are taken as classes; name them in {NAMES_FILE}, {_EXAMPLE}"
        names = tuple(f"class {value}" for value in found)
        return MaskValues(names, {value: index for index, value in enumerate(found)}, note=note)
    note = (
        f"values {_list_values(found)} of the masks are taken as instance numbers of one class; if they are classes, "
        f"name them in {NAMES_FILE}, {_EXAMPLE}"
    )
    return MaskValues((FOREGROUND,), counted=True, note=note)


def read_names(path: Path) -> MaskValues:
    """Read the names of values: ``{"1": "liver", "2": "tumour"}``, or a list whose first name is the background.

    Values with the same name are one class. The value ``"*"`` means every value above 0, for instance numbers.

    Raises:
        GossamerError: ``E-FORMAT`` for a file that is not JSON, ``E-LABEL`` for other content.
    """
    table = read_json(path)
    if isinstance(table, list):
        table = {str(value): name for value, name in enumerate(table)}
    if not isinstance(table, dict) or not all(isinstance(name, str) and name.strip() for name in table.values()):
        raise _label_error(path, "is not a table of values and names")
    wrong = [value for value in table if value != ANY_VALUE and not (value.isascii() and value.isdigit())]
    if wrong:
        raise _label_error(path, f"names the value {wrong[0]!r}, values are whole numbers from 0")
    if ANY_VALUE in table:
        if set(table) - {ANY_VALUE, "0"}:
            raise _label_error(path, f"names single values in addition to {ANY_VALUE!r}, which means all of them")
        return MaskValues((table[ANY_VALUE].strip(),), counted=True)
    named = {int(value): name.strip() for value, name in table.items() if int(value) > 0}
    if not named:
        raise _label_error(path, "does not name a value above 0")
    classes = tuple(dict.fromkeys(named[value] for value in sorted(named)))
    return MaskValues(classes, {value: classes.index(name) for value, name in named.items()})


def value_note(source: str, values: MaskValues) -> tuple[Note, ...]:
    """Return the decision about values as notes on ``source``."""
    return (Note(ErrorCode.LABEL, source, values.note),) if values.note else ()


def _list_values(values: list[int]) -> str:
    return ", ".join(map(str, values)) if len(values) <= 5 else f"from {values[0]} to {values[-1]}"


def _label_error(path: Path, problem: str) -> GossamerError:
    return GossamerError(ErrorCode.LABEL, path, problem, f"write the name of each value, {_EXAMPLE}")
