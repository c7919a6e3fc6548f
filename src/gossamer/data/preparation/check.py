"""Look at every image of a data set, and say what is there and what is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gossamer.data.classification import ClassificationDataset
from gossamer.data.dataset import SPLITS, Sample
from gossamer.data.image import Image
from gossamer.data.preparation.check_segmentation import MaskSummary, MaskTally
from gossamer.data.segmentation import SegmentationDataset
from gossamer.errors import ErrorCode, GossamerError, Note


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds: its cases, its patients where they are known, and the cases that hold each class."""

    images: int
    patients: int | None
    classes: dict[str, int]


@dataclass(frozen=True)
class DatasetCheck:
    """What ``check_dataset`` found.

    Attributes:
        source: the path that was opened.
        layout: the layout that was recognised.
        task: ``classification``, ``multi-label classification``, ``segmentation`` or ``segmentation of overlapping
            classes``.
        splits: what each split holds.
        sizes: how many images have each ``[slices x] rows x columns``, most frequent first.
        values: how many images hold each kind of values, such as ``uint16 grey``.
        value_range: the smallest and the largest stored value, or None when nothing could be read.
        duplicates_within: groups of ids, in one split, whose pixels are equal.
        duplicates_across: groups of ids, in several splits, whose pixels are equal.
        faults: what must be mended before training.
        notes: what was decided, and what is worth knowing.
        masks: what the masks hold, or None where there are none.
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

    def to_json(self) -> dict[str, Any]:
        """Return the findings as data."""
        return {
            "source": self.source,
            "layout": self.layout,
            "task": self.task,
            "splits": {
                name: {"images": split.images, "patients": split.patients, "classes": split.classes}
                for name, split in self.splits.items()
            },
            "sizes": self.sizes,
            "values": self.values,
            "value_range": self.value_range,
            "duplicates_within": self.duplicates_within,
            "duplicates_across": self.duplicates_across,
            **({"masks": asdict(self.masks)} if self.masks else {}),
            "faults": [fault.to_json() for fault in self.faults],
            "notes": [note.to_json() for note in self.notes],
        }


def check_dataset(
    dataset: ClassificationDataset | SegmentationDataset,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> DatasetCheck:
    """Read every image of ``dataset`` once, with its masks, and return what was found.

    Nothing that can be read stops it.

    Args:
        dataset: what to look at.
        on_progress: called with the number of images that were read, and their total.
    """
    tally = MaskTally(dataset.classes, dataset.volumes) if isinstance(dataset, SegmentationDataset) else None
    sizes: Counter[str] = Counter()
    values: Counter[str] = Counter()
    low, high = np.inf, -np.inf
    pixels: dict[str, list[Sample]] = defaultdict(list)
    faults, notes = list(dataset.faults), list(dataset.notes)
    for number, sample in enumerate(dataset.samples, start=1):
        try:
            image = _read(dataset, sample, tally)
        except GossamerError as error:
            faults.append(error)
        else:
            sizes["x".join(str(size) for size in image.spatial_shape)] += 1
            values[f"{image.array.dtype.name} {'grey' if image.channels == 1 else 'colour'}"] += 1
            finite = image.array[np.isfinite(image.array)] if image.array.dtype.kind == "f" else image.array
            if finite.size < image.array.size:
                count = image.array.size - finite.size
                problem = f"{count} values are NaN or infinite"
                faults.append(
                    GossamerError(ErrorCode.VALUE, image.source, problem, "replace them or leave the image out")
                )
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            pixels[image.fingerprint()].append(sample)
            notes.extend(image.notes)
        on_progress(number, len(dataset.samples))
    within, across = _duplicates(pixels)
    faults += _label_faults(dataset)
    notes += _contradictions(dataset, within + across)
    if len(values) > 1:
        notes.append(
            Note(ErrorCode.VALUE, dataset.source, f"images hold values of {len(values)} kinds: {', '.join(values)}")
        )
    return DatasetCheck(
        source=dataset.source,
        layout=dataset.layout,
        task=_task(dataset),
        splits=_summaries(dataset, tally),
        sizes=dict(sizes.most_common()),
        values=dict(values.most_common()),
        value_range=(low, high) if low <= high else None,
        duplicates_within=within,
        duplicates_across=across,
        faults=tuple(faults),
        notes=tuple(notes),
        masks=tally.summary() if tally else None,
    )


def _read(dataset: ClassificationDataset | SegmentationDataset, sample: Sample, tally: MaskTally | None) -> Image:
    """Return the image of a sample, and count its masks where it has some."""
    if isinstance(dataset, ClassificationDataset):
        return dataset.read(sample)
    case = dataset.read(sample)
    if tally is not None:
        tally.add(sample, case)
    return case.image


def _task(dataset: ClassificationDataset | SegmentationDataset) -> str:
    if isinstance(dataset, ClassificationDataset):
        return "multi-label classification" if dataset.multi_label else "classification"
    return "segmentation of overlapping classes" if dataset.overlapping else "segmentation"


def _summaries(
    dataset: ClassificationDataset | SegmentationDataset, tally: MaskTally | None
) -> dict[str, SplitSummary]:
    summaries = {}
    for split in SPLITS:
        samples = [sample for sample in dataset.samples if sample.split == split]
        if samples:
            patients = {sample.patient for sample in samples} - {None}
            if isinstance(dataset, ClassificationDataset):
                counts = dict(zip(dataset.classes, dataset.class_counts(split), strict=True))
            else:
                counts = tally.holding(split) if tally else {}
            summaries[split] = SplitSummary(len(samples), len(patients) or None, counts)
    return summaries


def _duplicates(pixels: dict[str, list[Sample]]) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    groups = [group for group in pixels.values() if len(group) > 1]
    within = [group for group in groups if len({sample.split for sample in group}) == 1]
    across = [group for group in groups if len({sample.split for sample in group}) > 1]
    return tuple(tuple(s.id for s in group) for group in within), tuple(tuple(s.id for s in group) for group in across)


def _contradictions(
    dataset: ClassificationDataset | SegmentationDataset, groups: tuple[tuple[str, ...], ...]
) -> list[Note]:
    if not isinstance(dataset, ClassificationDataset):
        return []  # the labels of a case are not what it is trained with
    labels = {sample.id: sample.labels for sample in dataset.samples}
    return [
        Note(ErrorCode.LABEL, dataset.source, f"equal pixels with different labels: {', '.join(group)}")
        for group in groups
        if len({labels[identity] for identity in group}) > 1
    ]


def _label_faults(dataset: ClassificationDataset | SegmentationDataset) -> list[GossamerError]:
    """Return what ``require_trainable`` would refuse beyond the faults already known."""
    if dataset.faults:
        return []
    try:
        dataset.require_trainable()
        if isinstance(dataset, SegmentationDataset):
            dataset.require_splits()
    except GossamerError as error:
        return [error]
    return []
