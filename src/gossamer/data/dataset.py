"""A labelled data set as a value: samples, classes, splits, and the common base of both tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gossamer.data.image import Image
from gossamer.data.io import read_picture
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import sha256_hexdigest
from gossamer.task import TaskName

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        id: Identifier, unique in the data set and stable: a relative path, or ``split/number`` in an archive.
        labels: Indices of its classes: exactly one, or any number in a multi-label data set.
        split: ``train``, ``val`` or ``test``.
        patient: Identifier of the patient, or None where it is unknown.
    """

    id: str
    labels: tuple[int, ...]
    split: str
    patient: str | None = None


@dataclass(frozen=True)
class FileReader:
    """Reader of samples whose ids are paths.

    Attributes:
        root: Folder that the paths are relative to.
    """

    root: Path

    def __call__(self, sample: Sample) -> Image:
        """Return the image of ``sample``."""
        return read_picture(self.root / sample.id)


@dataclass(frozen=True)
class Dataset(ABC):
    """A labelled data set, whatever its labels are: the base of ``ClassificationDataset`` and ``SegmentationDataset``.

    Attributes:
        task: Name of the task that the labels are meant for.
        source: Path that was opened.
        layout: Name of the layout in ``LAYOUTS``.
        classes: Class names; a label is an index into them.
        samples: Every sample, ordered by split and id.
        faults: Faults that prevent training, found from labels and names alone.
        notes: Decisions that were made while opening.
    """

    task: ClassVar[TaskName]
    source: str
    layout: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    faults: tuple[GossamerError, ...] = field(default=(), kw_only=True)
    notes: tuple[Note, ...] = field(default=(), kw_only=True)

    @property
    @abstractmethod
    def task_description(self) -> str:
        """The task in words, for example ``multi-label classification``."""

    @abstractmethod
    def read(self, sample: Sample) -> Any:
        """Return the image of ``sample`` with its labels, where these are pixels."""

    @abstractmethod
    def read_image(self, sample: Sample) -> Image:
        """Return the image of ``sample`` without its labels."""

    @abstractmethod
    def content_digest(self, sample: Sample) -> bytes:
        """Return bytes that identify the pixels of ``sample``, and of its masks where it has some."""

    @abstractmethod
    def require_trainable(self) -> None:
        """Raise unless a network can be trained on the labels."""

    def split(self, name: str) -> tuple[Sample, ...]:
        """Return the samples of one split.

        Raises:
            GossamerError: ``E-MISSING`` for a split without samples.
        """
        samples = tuple(sample for sample in self.samples if sample.split == name)
        if not samples:
            present = ", ".join(split for split in SPLITS if any(sample.split == split for sample in self.samples))
            remedy = f"use one of its splits: {present or 'none'}"
            raise GossamerError(ErrorCode.MISSING, self.source, f"has no {name} split", remedy)
        return samples

    def require_faultless(self) -> None:
        """Raise the first fault, with the number of others, if there is one.

        Raises:
            GossamerError: The fault.
        """
        if self.faults:
            first, others = self.faults[0], len(self.faults) - 1
            remedy = f"{first.remedy} ({others} more; run gossamer data check)" if others else first.remedy
            raise GossamerError(first.code, first.where, first.problem, remedy)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the classes and of the id, labels, split and patient of every sample, not of pixels."""
        lines = [repr((s.id, s.labels, s.split, s.patient)) for s in self.samples]
        return sha256_hexdigest("\n".join([repr(self.classes), *lines]).encode())


def shared_patients(samples: tuple[Sample, ...]) -> dict[str, tuple[str, ...]]:
    """Return the patients with samples in more than one split, each with these splits."""
    seen: dict[str, set[str]] = {}
    for sample in samples:
        if sample.patient is not None:
            seen.setdefault(sample.patient, set()).add(sample.split)
    return {
        patient: tuple(split for split in SPLITS if split in splits)
        for patient, splits in sorted(seen.items())
        if len(splits) > 1
    }


def patient_faults(source: str, samples: tuple[Sample, ...]) -> tuple[GossamerError, ...]:
    """Return a fault for every patient with samples in more than one split."""
    return tuple(
        GossamerError(
            ErrorCode.LABEL,
            source,
            f"patient {patient!r} has images in {' and '.join(splits)}",
            "move all images of a patient into one split",
        )
        for patient, splits in shared_patients(samples).items()
    )
