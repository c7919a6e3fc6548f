"""What became of every tensor: those of the published file, and those of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.nn.transfer import Transfer
from gossamer.pretrained.family import Family, Fit
from gossamer.pretrained.source import Source

REPORT = "import.json"


@dataclass(frozen=True)
class Theirs:
    """A tensor of the file.

    Attributes:
        name: of its authors.
        shape: as it is stored.
        dtype: as it is stored.
        fate: ``used`` with the values that it has, ``adapted``, or ``left out``.
        how: what was changed, or why it was left out; empty for nothing.
        ours: tensors of the network that it went into.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    fate: Literal["used", "adapted", "left out"]
    how: str
    ours: tuple[str, ...]


@dataclass(frozen=True)
class Ours:
    """A tensor of the network.

    Attributes:
        name: in the network.
        shape: as it is now.
        fate: ``loaded`` from the file, or ``fresh``.
        how: what was changed, or why it is fresh; empty for nothing.
        theirs: tensors of the file that it was made of.
    """

    name: str
    shape: tuple[int, ...]
    fate: Literal["loaded", "fresh"]
    how: str
    theirs: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The whole account of an import.

    Attributes:
        family: whose names the file has.
        source: the file, without its tensors.
        theirs: one entry a tensor of the file.
        ours: one entry a tensor of the network.
        notes: what the reader should know.
    """

    family: Family
    source: Source
    theirs: tuple[Theirs, ...]
    ours: tuple[Ours, ...]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return how many tensors had each fate."""
        fates = [entry.fate for entry in self.theirs] + [entry.fate for entry in self.ours]
        return {fate: fates.count(fate) for fate in ("used", "adapted", "left out", "loaded", "fresh")}

    def to_json(self) -> dict[str, Any]:
        """Return the account as data, for ``import.json``."""
        return {
            "family": self.family.name,
            "source": {
                "file": self.source.file,
                "form": self.source.form,
                "sha256": self.source.sha256,
                "size_bytes": self.source.size_bytes,
            },
            "counts": self.counts(),
            "theirs": [vars(entry) for entry in self.theirs],
            "ours": [vars(entry) for entry in self.ours],
            "notes": list(self.notes),
        }


def report_import(
    family: Family, source: Source, found: Fit, shapes: Mapping[str, tuple[int, ...]], moved: Transfer | None
) -> Report:
    """Return the report of an import.

    Args:
        family: whose names the file has.
        source: the file.
        found: how it fits the network at its own size.
        shapes: of the tensors of the network that was asked for.
        moved: what changed between the two; None where they are one.
    """
    adapted = {ours: made.adapted for ours, made in found.rules.items() if made.adapted}
    dropped: dict[str, str] = {}
    if moved is not None:
        adapted |= {ours: _and(adapted.get(ours), how) for ours, how in moved.adapted.items() if ours in found.rules}
        dropped = {ours: why for ours, why in moved.left_out.items() if ours in found.rules}
    ours = []
    for name, shape in shapes.items():
        if name in found.rules and name not in dropped:
            ours.append(Ours(name, shape, "loaded", adapted.get(name, ""), found.rules[name].names))
        else:
            why = f"the file's is for {dropped[name]}" if name in dropped else "the file has none"
            ours.append(Ours(name, shape, "fresh", why, ()))
    goes = {name: [ours for ours, made in found.rules.items() if name in made.names] for name in source.tensors}
    theirs = []
    for name, tensor in source.tensors.items():
        places = tuple(place for place in goes[name] if place not in dropped)
        changes = [adapted[place] for place in places if place in adapted]
        if not places:
            how = found.left_out.get(name) or dropped[goes[name][0]]
            entry = Theirs(name, tuple(tensor.shape), _dtype(tensor), "left out", how, ())
        else:
            fate = "adapted" if changes else "used"
            entry = Theirs(name, tuple(tensor.shape), _dtype(tensor), fate, _and(*changes), places)
        theirs.append(entry)
    return Report(family, source, tuple(theirs), tuple(ours), (*source.notes, *family.notes))


def _and(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
