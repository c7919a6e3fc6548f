"""A labelled data set as a value: its samples and classes, and how to read a sample's pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.data.image import Image
from gossamer.data.io import read_image
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import sha256_hexdigest

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        id: unique within the data set and stable: a path relative to it, or ``split/number`` within an archive.
        labels: indices of its classes: exactly one, or any number where the data set is multi-label.
        split: ``train``, ``val`` or ``test``.
        patient: whom it shows, or None where the data do not say.
    """

    id: str
    labels: tuple[int, ...]
    split: str
    patient: str | None = None


@dataclass(frozen=True)
class FileReader:
    """Reads samples whose ids are paths relative to ``root``."""

    root: Path

    def __call__(self, sample: Sample) -> Image:
        """Return the pixels of ``sample``."""
        return read_image(self.root / sample.id)


@dataclass(frozen=True)
class Dataset:
    """What every labelled data set has, whatever its labels are.

    Attributes:
        source: the path that was opened.
        layout: name of the layout in ``LAYOUTS``.
        classes: class names; a label is an index into them.
        samples: every sample, ordered by split and id.
        faults: what stands in the way of training, found from labels and names alone.
        notes: what was decided while opening.
    """

    source: str
    layout: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    faults: tuple[GossamerError, ...] = field(default=(), kw_only=True)
    notes: tuple[Note, ...] = field(default=(), kw_only=True)

    def split(self, name: str) -> tuple[Sample, ...]:
        """Return the samples of one split.

        Raises:
            GossamerError: ``E-MISSING`` when the split holds none.
        """
        samples = tuple(sample for sample in self.samples if sample.split == name)
        if not samples:
            held = ", ".join(split for split in SPLITS if any(sample.split == split for sample in self.samples))
            raise GossamerError(ErrorCode.MISSING, self.source, f"has no {name} split", f"it has: {held or 'none'}")
        return samples

    def require_faultless(self) -> None:
        """Raise the first fault, with the number of others, where there is one.

        Raises:
            GossamerError: the fault.
        """
        if self.faults:
            first, others = self.faults[0], len(self.faults) - 1
            remedy = f"{first.remedy} ({others} more; run gossamer data check)" if others else first.remedy
            raise GossamerError(first.code, first.where, first.problem, remedy)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the classes and of every sample's id, labels, split and patient (not of its pixels)."""
        lines = [repr((s.id, s.labels, s.split, s.patient)) for s in self.samples]
        return sha256_hexdigest("\n".join([repr(self.classes), *lines]).encode())


@dataclass(frozen=True)
class ClassificationDataset(Dataset):
    """Images of one layout, each with its classes.

    Attributes:
        multi_label: whether an image may have any number of the classes, rather than exactly one.
        reader: returns a sample's pixels.
    """

    multi_label: bool = field(kw_only=True)
    reader: Callable[[Sample], Image] = field(repr=False, compare=False, kw_only=True)

    def read(self, sample: Sample) -> Image:
        """Return the pixels of ``sample``.

        Raises:
            GossamerError: the image cannot be read.
        """
        return self.reader(sample)

    def class_counts(self, split: str) -> tuple[int, ...]:
        """Return how many samples of ``split`` have each class."""
        counts = Counter(label for sample in self.samples if sample.split == split for label in sample.labels)
        return tuple(counts[index] for index in range(len(self.classes)))

    def require_trainable(self) -> None:
        """Raise unless the labels can be trained with.

        Raises:
            GossamerError: the first fault, with the number of others; or ``E-LABEL`` when there is only one class.
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


def shared_patients(samples: tuple[Sample, ...]) -> dict[str, tuple[str, ...]]:
    """Return the patients who have samples in more than one split, each with those splits."""
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
    """Return a fault for every patient who has samples in more than one split."""
    return tuple(
        GossamerError(
            ErrorCode.LABEL,
            source,
            f"patient {patient!r} has images in {' and '.join(splits)}",
            "move all images of a patient into one split",
        )
        for patient, splits in shared_patients(samples).items()
    )
