"""The result of a check as a value, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gossamer.errors import GossamerError, Note
from gossamer.summary import Result, SummaryTable, list_some

_MOST_LISTED, _MOST_COUNTED = 12, 5


@dataclass(frozen=True)
class SplitSummary:
    """The contents of one split.

    Attributes:
        images: Number of images or cases.
        patients: Number of patients, or None where they are unknown.
        classes: Number of images or cases that have each class.
    """

    images: int
    patients: int | None
    classes: dict[str, int]


@dataclass(frozen=True)
class MaskSummary:
    """The contents of all masks.

    Attributes:
        slices: Number of slices, or of pictures where a case is one.
        pixel_shares: Share of all pixels that each class covers, 0 to 1.
        shared: Share of all pixels that belong to more than one class, 0 to 1.
        spacing_mm: Smallest and largest spacing along each spatial axis, or None where no case states one.
    """

    slices: int
    pixel_shares: dict[str, float]
    shared: float
    spacing_mm: tuple[tuple[float, float], ...] | None

    def summary_rows(self) -> list[tuple[str, str]]:
        """Return the rows of a table that show the masks to people, without the shares of the classes."""
        rows = [("slices", str(self.slices))]
        if self.shared:
            rows.append(("pixels of several classes", f"{self.shared:.2%}"))
        if self.spacing_mm:
            ranges = (f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in self.spacing_mm)
            rows.append(("spacing", f"{' x '.join(ranges)} mm"))
        return rows


@dataclass(frozen=True, repr=False)
class DatasetCheck(Result):
    """Contents of a data set, and what is wrong with it.

    Attributes:
        source: Path that was opened.
        layout: Name of the layout that was recognized.
        task: ``classification``, ``multi-label classification``, ``segmentation`` or ``segmentation of overlapping
            classes``.
        splits: Contents of each split.
        sizes: Number of images of each size ``[slices x] rows x columns``, most frequent first.
        values: Number of images of each type of values, such as ``uint16 grey``, most frequent first.
        value_range: Smallest and largest stored value, or None where nothing could be read.
        duplicates_within: Groups of ids in one split whose pixels are equal.
        duplicates_across: Groups of ids in several splits whose pixels are equal.
        faults: Faults to fix before training.
        notes: Decisions that were made, and observations.
        masks: Contents of the masks, or None where there are none.
        strict: Whether equal images in several splits make the data set unfit for training.
    """

    source: str
    layout: str
    task: str
    splits: dict[str, SplitSummary]
    sizes: dict[str, int]
    values: dict[str, int]
    value_range: tuple[float, float] | None
    duplicates_within: tuple[tuple[str, ...], ...]
    duplicates_across: tuple[tuple[str, ...], ...]
    faults: tuple[GossamerError, ...]
    notes: tuple[Note, ...]
    masks: MaskSummary | None = None
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing has to be fixed before training."""
        return not self.faults and not (self.strict and self.duplicates_across)

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON values."""
        return {
            "source": self.source,
            "layout": self.layout,
            "task": self.task,
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "sizes": self.sizes,
            "values": self.values,
            "value_range": self.value_range,
            "duplicates_within": self.duplicates_within,
            "duplicates_across": self.duplicates_across,
            **({"masks": asdict(self.masks)} if self.masks else {}),
            "faults": [fault.to_json() for fault in self.faults],
            "notes": [note.to_json() for note in self.notes],
            "ok": self.ok,
        }

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the splits with their classes, the properties of the images, and faults and notes."""
        return (self._split_table(), self._property_table(), self._finding_table())

    def _split_table(self) -> SummaryTable:
        classes = tuple(next(iter(self.splits.values())).classes) if self.splits else ()
        rows = [
            (
                name,
                str(split.images),
                "unknown" if split.patients is None else str(split.patients),
                *(str(split.classes[label]) for label in classes),
            )
            for name, split in self.splits.items()
        ]
        if self.masks:
            rows.append(("pixels", "", "", *(f"{share:.2%}" for share in self.masks.pixel_shares.values())))
        headings = ("split", "cases" if self.masks else "images", "patients", *classes)
        return SummaryTable(f"{self.source}: {self.layout} layout, {self.task}", headings, tuple(rows))

    def _property_table(self) -> SummaryTable:
        value_range = "" if self.value_range is None else "; {:g} to {:g}".format(*self.value_range)
        rows = [
            ("sizes", _list_counts(self.sizes)),
            ("values", _list_counts(self.values) + value_range),
            ("equal images within a split", str(len(self.duplicates_within))),
            ("equal images across splits", str(len(self.duplicates_across))),
            *(("", " = ".join(group)) for group in self.duplicates_across[:_MOST_LISTED]),
        ]
        return SummaryTable("", ("", ""), (*(self.masks.summary_rows() if self.masks else ()), *rows))

    def _finding_table(self) -> SummaryTable:
        rows = (*_list_findings("note", self.notes), *_list_findings("fault", self.faults))
        count = len(self.faults)
        if count:
            verdict = f"{count} fault{'' if count == 1 else 's'} to fix before training"
        elif not self.ok:
            verdict = "images that are equal across splits have to be removed"
        elif self.duplicates_across or self.notes:
            verdict = "nothing has to be fixed; please read the observations above"
        else:
            verdict = "nothing has to be fixed"
        return SummaryTable("", ("", ""), (*rows, ("result", verdict)))


def _list_counts(counts: dict[str, int]) -> str:
    return list_some([f"{name} ({count})" for name, count in counts.items()], _MOST_COUNTED) or "none"


def _list_findings(kind: str, items: Sequence[GossamerError | Note]) -> list[tuple[str, str]]:
    hidden = len(items) - _MOST_LISTED
    more = [(kind, f"{hidden} more (see to_dict() or --json)")] if hidden > 0 else []
    return [(kind, str(item)) for item in items[:_MOST_LISTED]] + more
