"""The check of a data set: every image is read once, and whatever cannot be used is reported."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from gossamer.data.checking.classification import LabelTally
from gossamer.data.checking.result import DatasetCheck, MaskSummary, SplitSummary
from gossamer.data.checking.segmentation import MaskTally
from gossamer.data.dataset import SPLITS, Dataset, Sample
from gossamer.data.image import Image
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.progress import SILENT, Progress
from gossamer.task import TaskName


class Tally(Protocol):
    """Reader of a data set that counts its labels: ``LabelTally`` or ``MaskTally``."""

    def read(self, sample: Sample) -> Image:
        """Return the image of a sample, and count its masks if it has some."""
        ...

    def class_counts(self, split: str) -> dict[str, int]:
        """Return the number of samples of a split that have each class."""
        ...

    def summarize_masks(self) -> MaskSummary | None:
        """Return the contents of the masks, or None where there are none."""
        ...

    def find_contradictions(self, groups: Iterable[tuple[str, ...]]) -> list[Note]:
        """Return a note for each group of ids of equal images whose labels contradict each other."""
        ...

    def require_trainable(self) -> None:
        """Raise unless a network can be trained on the labels."""
        ...


TALLIES: dict[TaskName, Any] = {"classify": LabelTally, "segment": MaskTally}


def check_dataset(dataset: Dataset, *, strict: bool = False, progress: Progress = SILENT) -> DatasetCheck:
    """Read every image of ``dataset`` once, with its masks, and report its contents and faults.

    Images that cannot be read do not end the check.

    Args:
        dataset: Data set to check.
        strict: Whether equal images in several splits make the data set unfit for training (default: False).
        progress: Receiver of the number of images that were read.
    """
    tally: Tally = TALLIES[dataset.task](dataset)
    sizes: Counter[str] = Counter()
    values: Counter[str] = Counter()
    low, high = np.inf, -np.inf
    pixels: dict[str, list[Sample]] = defaultdict(list)
    faults, notes = list(dataset.faults), list(dataset.notes)
    with progress.track_steps("reading images") as update:
        for number, sample in enumerate(dataset.samples, start=1):
            try:
                image = tally.read(sample)
            except GossamerError as error:
                faults.append(error)
            else:
                sizes["x".join(str(size) for size in image.spatial_shape)] += 1
                values[f"{image.array.dtype.name} {'grey' if image.channels == 1 else 'colour'}"] += 1
                finite = image.array[np.isfinite(image.array)] if image.array.dtype.kind == "f" else image.array
                if finite.size < image.array.size:
                    count = image.array.size - finite.size
                    problem = f"{count} values are NaN or infinite"
                    remedy = "replace them, or exclude the image"
                    faults.append(GossamerError(ErrorCode.VALUE, image.source, problem, remedy))
                if finite.size:
                    low, high = min(low, float(finite.min())), max(high, float(finite.max()))
                pixels[image.fingerprint()].append(sample)
                notes.extend(image.notes)
            update(number, len(dataset.samples))
    within, across = _find_duplicates(pixels)
    faults += _find_label_faults(dataset, tally)
    notes += tally.find_contradictions(within + across)
    if len(values) > 1:
        text = f"the images hold values of {len(values)} types: {', '.join(values)}"
        notes.append(Note(ErrorCode.VALUE, dataset.source, text))
    return DatasetCheck(
        source=dataset.source,
        layout=dataset.layout,
        task=dataset.task_description,
        splits=_summarize_splits(dataset, tally),
        sizes=dict(sizes.most_common()),
        values=dict(values.most_common()),
        value_range=(low, high) if low <= high else None,
        duplicates_within=within,
        duplicates_across=across,
        faults=tuple(faults),
        notes=tuple(notes),
        masks=tally.summarize_masks(),
        strict=strict,
    )


def _summarize_splits(dataset: Dataset, tally: Tally) -> dict[str, SplitSummary]:
    summaries = {}
    for split in SPLITS:
        samples = [sample for sample in dataset.samples if sample.split == split]
        if samples:
            patients = {sample.patient for sample in samples} - {None}
            summaries[split] = SplitSummary(len(samples), len(patients) or None, tally.class_counts(split))
    return summaries


def _find_duplicates(
    pixels: dict[str, list[Sample]],
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Return the groups of ids of equal images in one split, and in several."""
    groups = [group for group in pixels.values() if len(group) > 1]
    within = [group for group in groups if len({sample.split for sample in group}) == 1]
    across = [group for group in groups if len({sample.split for sample in group}) > 1]
    return tuple(tuple(s.id for s in group) for group in within), tuple(tuple(s.id for s in group) for group in across)


def _find_label_faults(dataset: Dataset, tally: Tally) -> list[GossamerError]:
    """Return the fault that training would stop with, beyond those that the data set knows."""
    if dataset.faults:
        return []
    try:
        tally.require_trainable()
    except GossamerError as error:
        return [error]
    return []
