"""Masks of a data set, counted case by case while its images are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from gossamer.data.checking.result import MaskSummary
from gossamer.data.dataset import Sample
from gossamer.data.image import Image
from gossamer.data.segmentation import SegmentationDataset
from gossamer.errors import Note


class MaskTally:
    """Counts of pixels, cases and spacings, of cases that are read once and not kept.

    Args:
        dataset: Data set whose cases are read.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset
        self._pixels = np.zeros(len(dataset.classes), dtype=np.int64)
        self._all = self._shared = self._slices = 0
        self._holding: Counter[tuple[str, int]] = Counter()
        self._spacings: list[tuple[float, ...]] = []

    def read(self, sample: Sample) -> Image:
        """Count the masks of a case, and return its image."""
        case = self._dataset.read(sample)
        planes = case.labels.planes.reshape(len(self._pixels), -1)
        counts = planes.sum(axis=1)
        self._pixels += counts
        self._all += planes.shape[1]
        if case.labels.overlapping:
            self._shared += int((planes.sum(axis=0, dtype=np.int32) > 1).sum())
        self._holding.update((sample.split, int(index)) for index in np.flatnonzero(counts))
        self._slices += case.image.spatial_shape[0] if self._dataset.volumes else 1
        if case.image.spacing_mm is not None:
            self._spacings.append(case.image.spacing_mm)
        return case.image

    def class_counts(self, split: str) -> dict[str, int]:
        """Return the number of cases of a split that hold each class."""
        return {name: self._holding[split, index] for index, name in enumerate(self._dataset.classes)}

    def summarize_masks(self) -> MaskSummary:
        """Return the counts of all cases that were read."""
        total = max(1, self._all)
        shares = {name: int(count) / total for name, count in zip(self._dataset.classes, self._pixels, strict=True)}
        axes = zip(*self._spacings, strict=True)
        spacing_mm = tuple((min(axis), max(axis)) for axis in axes) if self._spacings else None
        return MaskSummary(self._slices, shares, self._shared / total, spacing_mm)

    def find_contradictions(self, groups: Iterable[tuple[str, ...]]) -> list[Note]:
        """Return no notes: the labels of a case are not used in training."""
        return []

    def require_trainable(self) -> None:
        """Raise unless a network can be trained on the masks, and its best epoch be chosen."""
        self._dataset.require_trainable()
        self._dataset.require_splits()
