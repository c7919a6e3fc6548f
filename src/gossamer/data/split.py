"""Seeded splits with all images of a patient in one split and the classes in proportion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gossamer.data.dataset import Sample

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Split of each name that folders and tables use, in lower case."""
TEST_FRACTION = 0.2
VAL_FRACTION = 0.15

Traits = Callable[[Sample], tuple[Any, ...]]
"""Function that returns the properties of a sample that every split holds in proportion: sortable values."""


def labels_of(sample: Sample) -> tuple[int, ...]:
    """Return the labels of a sample: the default traits of a split."""
    return sample.labels


def assign_splits(samples: Sequence[Sample], seed: int, traits: Traits = labels_of) -> list[Sample]:
    """Return the samples with 65 % in ``train``, 15 % in ``val`` and 20 % in ``test``, by patient."""
    held_out = split_stratified(samples, TEST_FRACTION, seed, "test", rest="train", traits=traits)
    train = [sample for sample in held_out if sample.split == "train"]
    test = [sample for sample in held_out if sample.split == "test"]
    return split_stratified(train, VAL_FRACTION / (1 - TEST_FRACTION), seed, "val", rest="train", traits=traits) + test


def split_stratified(
    samples: Sequence[Sample], fraction: float, seed: int, split: str, rest: str, traits: Traits = labels_of
) -> list[Sample]:
    """Return the samples with about ``fraction`` of the patients of each class in ``split``, the others in ``rest``.

    A sample without a patient counts as a patient. Patients are stratified by the set of their labels, or of other
    traits; a set that only one patient has goes to ``rest``, so that no class is missing there.
    """
    patients: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        patients[f"patient {sample.patient}" if sample.patient is not None else f"sample {sample.id}"].append(sample)
    strata: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for patient in sorted(patients):
        strata[tuple(sorted({trait for s in patients[patient] for trait in traits(s)}))].append(patient)
    chosen: set[str] = set()
    generator = np.random.default_rng([seed, len(split), *split.encode()])
    for stratum in sorted(strata):
        members = strata[stratum]
        count = min(len(members) - 1, max(1, round(len(members) * fraction)))
        chosen.update(members[index] for index in generator.permutation(len(members))[:count])
    return [
        replace(sample, split=split if patient in chosen else rest)
        for patient, group in patients.items()
        for sample in group
    ]


def complete_splits(
    samples: Sequence[Sample], seed: int, traits: Traits = labels_of
) -> tuple[list[Sample], str | None]:
    """Return the samples with every split decided, and a sentence about the decision or None.

    Samples whose split is ``""`` are assigned. Where the data have a ``train`` split but no ``val``, a part of
    ``train`` becomes ``val``.
    """
    unknown = (
        "patients are unknown, so each image counts as one" if all(s.patient is None for s in samples) else "by patient"
    )
    if all(sample.split == "" for sample in samples):
        shares = f"{VAL_FRACTION:.0%} validation, {TEST_FRACTION:.0%} test"
        note = f"no split is given: {shares} were drawn with seed {seed} ({unknown})"
        return assign_splits(samples, seed, traits), note
    present = {sample.split for sample in samples}
    if "train" in present and "val" not in present:
        train = [sample for sample in samples if sample.split == "train"]
        others = [sample for sample in samples if sample.split != "train"]
        note = f"no validation split is given: {VAL_FRACTION:.0%} of train was drawn with seed {seed} ({unknown})"
        return split_stratified(train, VAL_FRACTION, seed, "val", rest="train", traits=traits) + others, note
    return list(samples), None


def sort_samples(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the samples by split and id, so that the order of a folder never matters."""
    order = {"train": 0, "val": 1, "test": 2}
    return tuple(sorted(samples, key=lambda sample: (order[sample.split], sample.id)))
