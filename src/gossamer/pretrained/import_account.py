"""Account of an import: what became of every tensor of the published file, and of every tensor of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.nn.transfer import WeightTransfer
from gossamer.pretrained.family import PresetFit, WeightFamily
from gossamer.pretrained.published_file import PublishedFile

REPORT = "import.json"


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file.

    Attributes:
        name: Name given by its authors.
        shape: Shape in the file.
        dtype: Data type in the file.
        fate: ``used`` unchanged, ``adapted``, or ``left out``.
        how: Change that was made, or reason why it was left out; empty for a tensor that was used.
        ours: Names of the tensors of the network that it went into.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    fate: Literal["used", "adapted", "left out"]
    how: str
    ours: tuple[str, ...]


@dataclass(frozen=True)
class NetworkTensor:
    """A tensor of the network.

    Attributes:
        name: Name in the network.
        shape: Shape in the network.
        fate: ``loaded`` from the file, or ``fresh``.
        how: Change that was made, or reason why it is fresh; empty for a tensor that was loaded unchanged.
        theirs: Names of the tensors of the file that it was made from.
    """

    name: str
    shape: tuple[int, ...]
    fate: Literal["loaded", "fresh"]
    how: str
    theirs: tuple[str, ...]


@dataclass(frozen=True)
class ImportAccount:
    """Account of every tensor.

    Attributes:
        family: Family of the file.
        source: Content of the file.
        theirs: Tensors of the file.
        ours: Tensors of the network.
        notes: Notes for the reader.
    """

    family: WeightFamily
    source: PublishedFile
    theirs: tuple[FileTensor, ...]
    ours: tuple[NetworkTensor, ...]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return the number of tensors with each fate."""
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


def account_for_import(
    family: WeightFamily,
    source: PublishedFile,
    found: PresetFit,
    shapes: Mapping[str, tuple[int, ...]],
    transfer: WeightTransfer | None,
) -> ImportAccount:
    """Return the account of an import.

    Args:
        family: Family of the file.
        source: Content of the file.
        found: Match of the file with the network at the file's own size.
        shapes: Shapes of the tensors of the requested network.
        transfer: Changes between the two networks; None if they are the same.
    """
    adapted = {ours: rule.adapted for ours, rule in found.rules.items() if rule.adapted}
    dropped: dict[str, str] = {}
    if transfer is not None:
        changed = {ours: how for ours, how in transfer.adapted.items() if ours in found.rules}
        adapted |= {ours: _join_words(adapted.get(ours), how) for ours, how in changed.items()}
        dropped = {ours: why for ours, why in transfer.ignored.items() if ours in found.rules}
    ours = []
    for name, shape in shapes.items():
        if name in found.rules and name not in dropped:
            ours.append(NetworkTensor(name, shape, "loaded", adapted.get(name, ""), found.rules[name].names))
        else:
            why = f"the file's is for {dropped[name]}" if name in dropped else "the file has none"
            ours.append(NetworkTensor(name, shape, "fresh", why, ()))
    targets = {name: [ours for ours, rule in found.rules.items() if name in rule.names] for name in source.tensors}
    theirs = []
    for name, tensor in source.tensors.items():
        places = tuple(place for place in targets[name] if place not in dropped)
        changes = [adapted[place] for place in places if place in adapted]
        if not places:
            how = found.left_out.get(name) or dropped[targets[name][0]]
            entry = FileTensor(name, tuple(tensor.shape), _dtype_name(tensor), "left out", how, ())
        else:
            fate = "adapted" if changes else "used"
            entry = FileTensor(name, tuple(tensor.shape), _dtype_name(tensor), fate, _join_words(*changes), places)
        theirs.append(entry)
    return ImportAccount(family, source, tuple(theirs), tuple(ours), (*source.notes, *family.notes))


def _join_words(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
