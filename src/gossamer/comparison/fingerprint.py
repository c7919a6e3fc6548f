"""Whether the data of a comparison are still those that it was begun with, and how many patients decide it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from gossamer.data import ClassificationDataset, SegmentationDataset
from gossamer.evaluation.predictions import groups_of


def hash_contents(dataset: ClassificationDataset | SegmentationDataset) -> str:
    """Return a SHA-256 of the pixels of every image and of its masks, in the order of the samples.

    Names, labels and splits are left to ``Dataset.fingerprint``. Pixels are what is trained with: a file that was
    written again with the same ones is the same. It takes as long as one training reads its data.

    Args:
        dataset: that is read, image by image.

    Raises:
        GossamerError: an image or a mask cannot be read.
    """
    digest = hashlib.sha256()
    for sample in dataset.samples:
        if isinstance(dataset, ClassificationDataset):
            digest.update(dataset.read(sample).fingerprint().encode())
        else:
            case = dataset.read(sample)
            digest.update(case.image.fingerprint().encode())
            digest.update(np.packbits(case.labels.planes).tobytes())
    return digest.hexdigest()


def count_evaluated_patients(dataset: ClassificationDataset | SegmentationDataset) -> tuple[int, str, str]:
    """Return how many are evaluated, what they are, and the split: the test split where there is one."""
    split = "test" if any(sample.split == "test" for sample in dataset.samples) else "val"
    samples = [sample for sample in dataset.samples if sample.split == split]
    groups = set(groups_of(samples))
    return (
        len(groups),
        name_interval_unit(groups, "classify" if isinstance(dataset, ClassificationDataset) else "segment"),
        split,
    )


def name_interval_unit(groups: Iterable[str], task: str) -> str:
    """Return what intervals are over, for one of them: patients, or samples where patients are unknown.

    Args:
        groups: of the samples, as ``groups_of`` names them.
        task: ``classify`` or ``segment``.
    """
    known = any(group.startswith("patient ") for group in groups)
    return "patient" if known else "image" if task == "classify" else "case"
