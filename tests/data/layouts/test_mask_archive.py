"""Archives with masks, told from archives with labels by their headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.data import SPLITS, SegmentationDataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError

COUNTS = dict(zip(SPLITS, (7, 3, 4), strict=True))


def arrays(part: str = "masks", values: tuple[int, ...] = (0, 1, 2), colour: bool = False) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {}
    for split, count in COUNTS.items():
        shape = (count, 9, 13, 3) if colour else (count, 9, 13)
        found[f"{split}_images"] = generator.integers(0, 255, shape, dtype=np.uint8)
        found[f"{split}_{part}"] = generator.choice(values, (count, 9, 13)).astype(np.int64)
    return found


def opened(path: Path, found: dict[str, np.ndarray]) -> SegmentationDataset:
    np.savez(path, **found)
    return open_dataset(path, task="segment")


def refused(path: Path, code: ErrorCode, found: dict[str, np.ndarray]) -> str:
    with pytest.raises(GossamerError) as caught:
        opened(path, found)
    assert caught.value.code is code, caught.value
    return str(caught.value)


@pytest.mark.parametrize("part", ["masks", "labels"])
@pytest.mark.parametrize("colour", [False, True])
def test_images_with_masks(tmp_path: Path, part: str, colour: bool) -> None:
    found = arrays(part, colour=colour)
    dataset = opened(tmp_path / "a.npz", found)
    assert (dataset.layout, dataset.classes, dataset.faults) == ("mask_archive", ("class 1", "class 2"), ())
    assert {split: len(dataset.split(split)) for split in SPLITS} == COUNTS
    for sample in dataset.samples:
        split, index = sample.id.split("/")
        case = dataset.read(sample)
        np.testing.assert_array_equal(case.image.array, found[f"{split}_images"][int(index)])
        np.testing.assert_array_equal(case.labels.indices(), found[f"{split}_{part}"][int(index)])


def test_binary_masks_of_any_kind(tmp_path: Path) -> None:
    for values in ((0, 1), (0, 255)):
        found = arrays(values=values)
        dataset = opened(tmp_path / "a.npz", found)
        assert dataset.classes == ("foreground",)
        np.testing.assert_array_equal(
            dataset.read(dataset.split("train")[0]).labels.planes[0], found["train_masks"][0] > 0
        )
    found = {key: array.astype(bool) if "masks" in key else array for key, array in arrays(values=(0, 1)).items()}
    assert opened(tmp_path / "a.npz", found).classes == ("foreground",)


def test_a_missing_validation_split_is_drawn(tmp_path: Path) -> None:
    found = {key: array for key, array in arrays().items() if not key.startswith("val")}
    dataset = opened(tmp_path / "a.npz", found)
    assert [len(dataset.split(split)) for split in SPLITS] == [6, 1, 4]
    assert any("no validation split" in note.text for note in dataset.notes)


def test_labels_of_images_stay_with_classification(tmp_path: Path) -> None:
    found = arrays()
    labels = {f"{split}_labels": np.arange(count)[:, None] % 2 for split, count in COUNTS.items()}
    np.savez(tmp_path / "a.npz", **{key: array for key, array in found.items() if "images" in key}, **labels)
    assert open_dataset(tmp_path / "a.npz").layout == "medmnist"
    with pytest.raises(GossamerError, match=r"E-FORMAT.*medmnist"):
        open_dataset(tmp_path / "a.npz", task="segment")
    np.savez(tmp_path / "b.npz", **found)
    with pytest.raises(GossamerError, match=r"E-FORMAT.*mask_archive"):
        open_dataset(tmp_path / "b.npz", task="classify")
    np.savez(tmp_path / "c.npz", **found, **labels)
    assert open_dataset(tmp_path / "c.npz", task="classify").layout == "medmnist"
    assert open_dataset(tmp_path / "c.npz", task="segment").layout == "mask_archive"


def test_archives_that_contradict_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for key, array, code, words in (
        ("val_masks", None, ErrorCode.LABEL, "no key val_masks"),
        ("train_images", None, ErrorCode.LABEL, "no key train_images"),
        ("val_masks", np.zeros((2, 9, 13), int), ErrorCode.LABEL, "holds 3 images, val_masks 2 masks"),
        ("val_masks", np.zeros((3, 9, 12), int), ErrorCode.GEOMETRY, "9x13 pixels, val_masks 9x12"),
        ("test_masks", np.full((4, 9, 13), -1), ErrorCode.LABEL, "whole numbers from 0"),
        ("test_masks", np.zeros((4, 9, 13)), ErrorCode.LABEL, "float64"),
        ("test_masks", np.zeros((4, 9, 13, 2), int), ErrorCode.LABEL, "(4, 9, 13, 2)"),
        ("train_images", np.zeros((7, 9, 13, 5)), ErrorCode.LABEL, "(7, 9, 13, 5)"),
        ("train_masks", np.array([{}] * 7, dtype=object), ErrorCode.SECURITY, "Python objects"),
    ):
        found = {name: value for name, value in (arrays() | {key: array}).items() if value is not None}
        assert words in refused(path, code, found), (key, words)


def test_a_damaged_archive_is_said_to_be_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-200])
    for task in (None, "classify", "segment"):
        with pytest.raises(GossamerError, match="npz") as caught:
            open_dataset(tmp_path / "a.npz", task=task)  # type: ignore[call-overload]
        assert caught.value.code is ErrorCode.FORMAT
