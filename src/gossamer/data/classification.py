"""Images with class labels as a value: samples, classes, and how to read an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from gossamer.data.dataset import SPLITS, Dataset, Sample
from gossamer.data.image import Image
from gossamer.errors import ErrorCode, GossamerError
from gossamer.task import TaskName


@dataclass(frozen=True)
class ClassificationDataset(Dataset):
    """Images of one layout, each with its classes.

    Attributes:
        multi_label: Whether an image may have any number of the classes, rather than exactly one.
        reader: Function that returns the pixels of a sample.
    """

    task: ClassVar[TaskName] = "classify"
    multi_label: bool = field(kw_only=True)
    reader: Callable[[Sample], Image] = field(repr=False, compare=False, kw_only=True)

    @property
    def task_description(self) -> str:
        """The task in words: ``classification`` or ``multi-label classification``."""
        return "multi-label classification" if self.multi_label else "classification"

    def read(self, sample: Sample) -> Image:
        """Return the image of ``sample``.

        Raises:
            GossamerError: The image cannot be read.
        """
        return self.reader(sample)

    def read_image(self, sample: Sample) -> Image:
        """Return the image of ``sample``; the same as ``read``."""
        return self.read(sample)

    def content_digest(self, sample: Sample) -> bytes:
        """Return bytes that identify the pixels of ``sample``.

        Raises:
            GossamerError: The image cannot be read.
        """
        return self.read(sample).fingerprint().encode()

    def class_counts(self, split: str) -> tuple[int, ...]:
        """Return the number of samples of ``split`` that have each class."""
        counts = Counter(label for sample in self.samples if sample.split == split for label in sample.labels)
        return tuple(counts[index] for index in range(len(self.classes)))

    def require_trainable(self) -> None:
        """Raise unless a network can be trained on the labels.

        Raises:
            GossamerError: The first fault, with the number of others; ``E-LABEL`` for a single class, or for a label
                that no training image has.
        """
        self.require_faultless()
        if len(self.classes) < 2 and not self.multi_label:
            only = f"there is only one class, {self.classes[0]!r}" if self.classes else "there is no class"
            raise GossamerError(ErrorCode.LABEL, self.source, only, "add images of a second class")
        train = set().union(*(sample.labels for sample in self.split("train")))
        for split in SPLITS:
            for sample in self.samples:
                unseen = set(sample.labels) - train if sample.split == split else set()
                if unseen:
                    label = self.classes[min(unseen)]
                    problem = f"label {label!r} ({split}, {sample.id}) occurs in no training image"
                    raise GossamerError(ErrorCode.LABEL, self.source, problem, "correct the label or the split")
