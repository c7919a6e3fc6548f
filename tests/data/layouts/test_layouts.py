"""Layouts are recognized by looking; whatever contradicts itself is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.data import SPLITS, open_dataset
from gossamer.data.io import limits
from gossamer.errors import ErrorCode, GossamerError


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((6, 8), value % 251, np.uint8)
    array[value % 6, value % 8] = 251 + value % 5
    PillowImage.fromarray(array).save(path)


def write_flat(root: Path, counts: dict[str, int]) -> Path:
    number = 0
    for name, count in counts.items():
        for index in range(count):
            write_image(root / name / f"{index:03d}.png", number)
            number += 1
    return root


def write_manifest(root: Path, rows: str, images: int = 12) -> Path:
    for index in range(images):
        write_image(root / f"{index}.png", index)
    (root / "manifest.csv").write_text(rows)
    return root


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def medmnist(count: int = 6, **changes: np.ndarray) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays = {}
    for split in SPLITS:
        arrays[f"{split}_images"] = generator.integers(0, 255, (count, 9, 9), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count).reshape(-1, 1) % 2
    return arrays | changes


def refused(path: Path, code: ErrorCode) -> str:
    with pytest.raises(GossamerError) as caught:
        open_dataset(path).require_trainable()
    assert caught.value.code is code, caught.value
    return str(caught.value)


def test_nothing_to_open(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent", ErrorCode.MISSING)
    assert "empty" in refused(tmp_path, ErrorCode.MISSING)
    (tmp_path / "notes.txt").write_text("hello")
    assert "<class>/<image>" in refused(tmp_path, ErrorCode.FORMAT)


# --- class folders


def test_flat_class_folders_get_a_seeded_stratified_split(tmp_path: Path) -> None:
    write_flat(tmp_path, {"healthy": 40, "ill": 20})
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "class_folders"
    assert dataset.classes == ("healthy", "ill")
    assert [len(dataset.split(split)) for split in SPLITS] == [39, 9, 12]
    assert dataset.class_counts("test") == (8, 4)
    assert dataset.fingerprint() == open_dataset(tmp_path).fingerprint()
    assert dataset.fingerprint() != open_dataset(tmp_path, seed=1).fingerprint()
    assert "seed 0" in dataset.notes[-1].text


def test_given_splits_are_kept_and_a_missing_validation_split_is_drawn(tmp_path: Path) -> None:
    write_flat(tmp_path / "train", {"a": 20, "b": 20})
    write_flat(tmp_path / "test", {"a": 4, "b": 6})
    dataset = open_dataset(tmp_path)
    assert dataset.class_counts("test") == (4, 6)
    assert dataset.class_counts("val") == (3, 3)
    assert all(sample.id.startswith("test/") for sample in dataset.split("test"))
    assert "no validation split" in dataset.notes[-1].text


def test_a_folder_inside_a_class_is_a_patient(tmp_path: Path) -> None:
    for patient in range(12):
        for view in range(3):
            write_image(tmp_path / "ab"[patient % 2] / f"p{patient}" / f"{view}.png", 3 * patient + view)
    dataset = open_dataset(tmp_path)
    for patient in {sample.patient for sample in dataset.samples}:
        assert len({sample.split for sample in dataset.samples if sample.patient == patient}) == 1
    assert "by patient" in dataset.notes[-1].text


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in "ab":
            for patient in range(4):
                write_image(tmp_path / split / name / f"{name}{split if patient else ''}{patient}" / "0.png", patient)
    assert "'a0'" in refused(tmp_path, ErrorCode.LABEL)


def test_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    write_flat(tmp_path, {"a": 8, "b": 8})
    (tmp_path / "a" / "readme.txt").write_text("hello")
    assert "a/readme.txt" in open_dataset(tmp_path).notes[0].text


def test_one_class_only(tmp_path: Path) -> None:
    write_flat(tmp_path, {"a": 8})
    assert "only one class, 'a'" in refused(tmp_path, ErrorCode.LABEL)


def test_a_class_without_training_images(tmp_path: Path) -> None:
    write_flat(tmp_path / "train", {"a": 9, "b": 9})
    write_flat(tmp_path / "test", {"a": 3, "c": 3})
    assert "'c'" in refused(tmp_path, ErrorCode.LABEL)


# --- manifest


def test_a_manifest_with_patients_and_splits(tmp_path: Path) -> None:
    rows = "\n".join(f"{i}.png,{'xy'[i % 2]},p{i},{SPLITS[i % 3]}" for i in range(12))
    write_manifest(tmp_path, f"\ufeffpath,label,patient,split\r\n{rows}\r\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("x", "y")
    assert [len(dataset.split(split)) for split in SPLITS] == [4, 4, 4]
    assert dataset.read(dataset.samples[0]).array.shape == (6, 8)
    assert open_dataset(tmp_path / "manifest.csv").fingerprint() == dataset.fingerprint()
    assert dataset.notes == ()


def test_several_labels(tmp_path: Path) -> None:
    labels = ["edema|effusion", "edema", "-", "effusion"] * 3
    write_manifest(tmp_path, "path,label\n" + "\n".join(f"{i}.png,{label}" for i, label in enumerate(labels)))
    dataset = open_dataset(tmp_path)
    assert dataset.multi_label
    assert dataset.classes == ("edema", "effusion")
    assert {sample.labels for sample in dataset.samples} == {(), (0,), (1,), (0, 1)}


@pytest.mark.parametrize(
    ("rows", "code", "text"),
    [
        ("path;label\n0.png;a", ErrorCode.SYNTAX, "';'"),
        ("file,label\n0.png,a", ErrorCode.MISSING, "no column 'path'"),
        ("path,label", ErrorCode.MISSING, "no rows"),
        ("path,label\n0.png,a\n0.png,b", ErrorCode.LABEL, "row 3"),
        ("path,label\n0.png,a\n1.png,", ErrorCode.LABEL, "no label"),
        ("path,label\n0.png,a\n77.png,b", ErrorCode.MISSING, "'77.png'"),
        ("path,label\n0.png,a\n1.png,b,c", ErrorCode.LABEL, "row 3"),
        ("path,label,split\n0.png,a,train\n1.png,b,", ErrorCode.LABEL, "row 3"),
        ("path,label,split\n0.png,a,holdout", ErrorCode.LABEL, "'holdout'"),
        ('path,label\n"0.png,a', ErrorCode.SYNTAX, "row"),
        ("path,label,patient,split\n0.png,a,p1,train\n1.png,b,p1,test", ErrorCode.LABEL, "'p1'"),
    ],
)
def test_a_manifest_that_contradicts_itself(tmp_path: Path, rows: str, code: ErrorCode, text: str) -> None:
    write_manifest(tmp_path, rows)
    assert text in refused(tmp_path, code)


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"path,label\n\xff\xfe,a")
    assert "UTF-8" in refused(tmp_path, ErrorCode.FORMAT)


# --- MedMNIST


def test_medmnist(tmp_path: Path) -> None:
    arrays = medmnist()
    dataset = open_dataset(write_npz(tmp_path / "breastmnist.npz", **arrays))
    assert dataset.classes == ("malignant", "normal or benign")
    assert [len(dataset.split(split)) for split in SPLITS] == [6, 6, 6]
    np.testing.assert_array_equal(dataset.read(dataset.split("val")[3]).array, arrays["val_images"][3])


def test_medmnist_in_colour_and_with_several_labels(tmp_path: Path) -> None:
    arrays = medmnist()
    for split in SPLITS:
        arrays[f"{split}_images"] = np.zeros((6, 5, 7, 3), np.uint8)
        arrays[f"{split}_labels"] = np.eye(6, 4, dtype=np.uint8)
    dataset = open_dataset(write_npz(tmp_path / "a.npz", **arrays))
    assert dataset.multi_label
    assert dataset.classes == ("class 0", "class 1", "class 2", "class 3")
    assert dataset.split("train")[5].labels == ()
    assert dataset.read(dataset.samples[0]).axes == ("rows", "columns", "channels")


@pytest.mark.parametrize(
    ("arrays", "code", "text"),
    [
        ({"images": np.zeros((2, 3, 3))}, ErrorCode.LABEL, "train_images"),
        (medmnist(train_labels=np.zeros((5, 1), int)), ErrorCode.LABEL, "6 images"),
        (medmnist(val_labels=np.full((6, 1), 7)), ErrorCode.LABEL, "class 7"),
        (medmnist(val_labels=np.full((6, 1), -1)), ErrorCode.LABEL, "val_labels"),
        (medmnist(val_labels=np.full((6, 1), 0.5)), ErrorCode.LABEL, "val_labels"),
        (medmnist(test_images=np.zeros((6, 3), np.uint8)), ErrorCode.LABEL, "test_images"),
        (medmnist(test_labels=np.zeros((6, 2), int)), ErrorCode.LABEL, "columns"),
        (medmnist(train_images=np.array([{}] * 6, object)), ErrorCode.SECURITY, "objects"),
        (
            medmnist(test_labels=np.zeros((0, 1), int), test_images=np.zeros((0, 9, 9), np.uint8)),
            ErrorCode.LABEL,
            "0 images",
        ),
    ],
)
def test_an_archive_that_contradicts_itself(
    tmp_path: Path, arrays: dict[str, np.ndarray], code: ErrorCode, text: str
) -> None:
    assert text in refused(write_npz(tmp_path / "a.npz", **arrays), code)


def test_an_archive_with_one_label_key_gone(tmp_path: Path) -> None:
    arrays = medmnist()
    del arrays["val_labels"]
    assert "val_labels" in refused(write_npz(tmp_path / "a.npz", **arrays), ErrorCode.LABEL)


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", **medmnist())
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    refused(path, ErrorCode.FORMAT)
    data[400] ^= 1
    path.write_bytes(data)
    refused(path, ErrorCode.INTEGRITY)


def test_an_archive_that_inflates_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **medmnist(train_images=np.zeros((500, 100, 100), np.uint8)))
    assert path.stat().st_size < 2e4
    monkeypatch.setattr(limits, "MAX_INFLATED_BYTES", 4_000_000)
    assert "inflates" in refused(path, ErrorCode.LIMIT)
