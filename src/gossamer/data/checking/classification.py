"""Class labels of a data set, counted while its images are read."""

from __future__ import annotations

from collections.abc import Iterable

from gossamer.data.classification import ClassificationDataset
from gossamer.data.dataset import Sample
from gossamer.data.image import Image
from gossamer.errors import ErrorCode, Note


class LabelTally:
    """Counts of class labels, which are known before any image is read.

    Args:
        dataset: Data set whose images are read.
    """

    def __init__(self, dataset: ClassificationDataset) -> None:
        self._dataset = dataset

    def read(self, sample: Sample) -> Image:
        """Return the image of a sample."""
        return self._dataset.read(sample)

    def class_counts(self, split: str) -> dict[str, int]:
        """Return the number of images of a split that have each class."""
        return dict(zip(self._dataset.classes, self._dataset.class_counts(split), strict=True))

    def summarize_masks(self) -> None:
        """Return None: there are no masks."""

    def find_contradictions(self, groups: Iterable[tuple[str, ...]]) -> list[Note]:
        """Return a note for each group of ids of equal images whose labels differ."""
        labels = {sample.id: sample.labels for sample in self._dataset.samples}
        return [
            Note(ErrorCode.LABEL, self._dataset.source, f"equal pixels with different labels: {', '.join(group)}")
            for group in groups
            if len({labels[identity] for identity in group}) > 1
        ]

    def require_trainable(self) -> None:
        """Raise unless a network can be trained on the labels."""
        self._dataset.require_trainable()
