"""What the masks of a data set hold, counted case by case."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from gossamer.data.dataset import Sample
from gossamer.data.segmentation import LabelledCase


@dataclass(frozen=True)
class MaskSummary:
    """What masks hold.

    Attributes:
        slices: how many there are, or pictures where a case is one.
        pixel_shares: the share of all pixels that each class covers.
        shared: the share of all pixels that belong to more than one class.
        spacing_mm: smallest and largest along each spatial axis, or None where no case states one.
    """

    slices: int
    pixel_shares: dict[str, float]
    shared: float
    spacing_mm: tuple[tuple[float, float], ...] | None


class MaskTally:
    """Counts pixels, cases and spacings while cases are read once and thrown away.

    Args:
        classes: names of the planes of every case.
        volumes: whether a case is a volume.
    """

    def __init__(self, classes: tuple[str, ...], volumes: bool) -> None:
        self._classes, self._volumes = classes, volumes
        self._pixels = np.zeros(len(classes), dtype=np.int64)
        self._all = self._shared = self._slices = 0
        self._holding: Counter[tuple[str, int]] = Counter()
        self._spacings: list[tuple[float, ...]] = []

    def add(self, sample: Sample, case: LabelledCase) -> None:
        """Count one case."""
        planes = case.labels.planes.reshape(len(self._classes), -1)
        counts = planes.sum(axis=1)
        self._pixels += counts
        self._all += planes.shape[1]
        if case.labels.overlapping:
            self._shared += int((planes.sum(axis=0, dtype=np.int32) > 1).sum())
        self._holding.update((sample.split, int(index)) for index in np.flatnonzero(counts))
        self._slices += case.image.spatial_shape[0] if self._volumes else 1
        if case.image.spacing_mm is not None:
            self._spacings.append(case.image.spacing_mm)

    def holding(self, split: str) -> dict[str, int]:
        """Return how many cases of a split hold each class."""
        return {name: self._holding[split, index] for index, name in enumerate(self._classes)}

    def summary(self) -> MaskSummary:
        """Return what was counted."""
        total = max(1, self._all)
        shares = {name: int(count) / total for name, count in zip(self._classes, self._pixels, strict=True)}
        axes = zip(*self._spacings, strict=True)
        spacing_mm = tuple((min(axis), max(axis)) for axis in axes) if self._spacings else None
        return MaskSummary(self._slices, shares, self._shared / total, spacing_mm)


def _channels(count: int) -> str:
    return {1: "grey", 3: "colour"}.get(count, f"with {count} channels")
