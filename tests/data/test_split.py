"""Splits never divide a patient, keep classes in proportion, and depend on the seed alone."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data import Sample
from gossamer.data.dataset import shared_patients
from gossamer.data.split import assign_splits, complete_splits


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    patients = draw(st.integers(3, 40))
    classes = draw(st.integers(2, 4))
    found = []
    for patient in range(patients):
        for image in range(draw(st.integers(1, 4))):
            name = f"P{patient}" if draw(st.booleans()) or patient % 2 else None
            found.append(Sample(f"{patient}/{image}", (draw(st.integers(0, classes - 1)),), "", name))
    return found


@settings(max_examples=100, deadline=None)
@given(samples(), st.integers(0, 5))
def test_patients_stay_together_and_nothing_is_lost(found: list[Sample], seed: int) -> None:
    split = assign_splits(found, seed)
    assert {sample.id for sample in split} == {sample.id for sample in found}
    assert {sample.split for sample in split} <= {"train", "val", "test"}
    assert shared_patients(tuple(split)) == {}
    assert sorted(split, key=lambda s: s.id) == sorted(assign_splits(found[::-1], seed), key=lambda s: s.id)


def test_every_class_keeps_training_images_and_its_share() -> None:
    found = [Sample(f"{k}/{i}", (k,), "", None) for k, count in enumerate((200, 60, 3, 1)) for i in range(count)]
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for sample in assign_splits(found, 0):
        counts[sample.split, sample.labels[0]] += 1
    assert [counts["test", k] for k in range(4)] == [40, 12, 1, 0]
    assert [counts["val", k] for k in range(4)] == [30, 9, 1, 0]
    assert all(counts["train", k] >= 1 for k in range(4))


def test_a_split_that_is_given_is_left_alone() -> None:
    found = [Sample(str(i), (i % 2,), ("train", "val", "test")[i % 3]) for i in range(12)]
    assert complete_splits(found, 0) == (found, None)
