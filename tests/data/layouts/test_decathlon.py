"""Decathlon and nnU-Net folders: names from the table, splits from the lists, and what contradicts itself refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.data import SegmentationDataset
from gossamer.data.layouts import open_dataset
from gossamer.data.layouts.decathlon import is_decathlon, open_decathlon
from gossamer.errors import GossamerError

SHAPE = (7, 5, 3)
AFFINE = np.diag([-0.5, 1.5, 2.0, 1.0])


def pixels(number: int, channels: int = 1) -> np.ndarray:
    shape = SHAPE if channels == 1 else (*SHAPE, channels)
    return np.random.default_rng(number).integers(0, 500, shape).astype(np.int16)


def labels(number: int, top: int = 2) -> np.ndarray:
    return np.random.default_rng(number + 99).integers(0, top + 1, SHAPE).astype(np.uint8)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def msd(root: Path, count: int = 6, held_out: int = 2, channels: int = 1, **changes: Any) -> Path:
    """A Decathlon folder with cases 0..count-1, the last of them for validation; ``changes`` replace keys."""
    for number in range(count):
        save(root / f"imagesTr/liver_{number}.nii.gz", pixels(number, channels))
        save(root / f"labelsTr/liver_{number}.nii.gz", labels(number))
    entries = [
        {"image": f"./imagesTr/liver_{number}.nii.gz", "label": f"./labelsTr/liver_{number}.nii.gz"}
        for number in range(count)
    ]
    table: dict[str, Any] = {
        "modality": {str(channel): "CT" for channel in range(channels)},
        "labels": {"0": "background", "1": "liver", "2": "tumour"},
        "numTraining": count,
        "training": entries[: count - held_out],
        "validation": entries[count - held_out :],
        "test": ["./imagesTs/liver_9.nii.gz"],
    }
    write_table(root, {**table, **changes})
    return root


def nnunet(root: Path, cases: tuple[str, ...], channels: int = 2, **changes: Any) -> Path:
    for number, case in enumerate(cases):
        for channel in range(channels):
            save(root / f"imagesTr/{case}_{channel:04d}.nii.gz", pixels(number + 10 * channel))
        save(root / f"labelsTr/{case}.nii.gz", labels(number))
    table = {
        "channel_names": {str(channel): f"T{channel}" for channel in range(channels)},
        "labels": {"background": 0, "lesion": 2, "kidney": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    write_table(root, {**table, **changes})
    return root


def write_table(root: Path, table: dict[str, Any]) -> None:
    kept = {key: value for key, value in table.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(kept))


def splits(dataset: SegmentationDataset) -> Counter[str]:
    return Counter(sample.split for sample in dataset.samples)


def read_all(root: Path) -> None:
    dataset = open_decathlon(root, 0)
    dataset.require_trainable()
    for sample in dataset.samples:
        dataset.read(sample)


def fault(root: Path) -> str:
    """The one line of what opening the folder, or else reading its cases, refuses."""
    with pytest.raises(GossamerError) as caught:
        read_all(root)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(root), "")


def test_the_table_of_layouts_knows_it(tmp_path: Path) -> None:
    dataset = open_dataset(msd(tmp_path / "Task"), task="segment")
    assert dataset.layout == "decathlon"
    assert not is_decathlon(tmp_path)
    assert not is_decathlon(tmp_path / "Task" / "imagesTr")


def test_a_decathlon_folder_says_its_classes_splits_and_pixels(tmp_path: Path) -> None:
    dataset = open_decathlon(msd(tmp_path), 0)
    assert dataset.classes == ("liver", "tumour")
    assert (dataset.volumes, dataset.overlapping, dataset.normalize) == (True, False, "dataset")
    assert splits(dataset) == {"train": 4, "val": 2}
    assert [sample.id for sample in dataset.split("val")] == ["imagesTr/liver_4.nii.gz", "imagesTr/liver_5.nii.gz"]
    assert "1 test images have no masks" in str(dataset.notes[0])
    assert len(dataset.notes) == 1
    case = dataset.read(dataset.split("val")[0])
    assert case.image.axes == ("slices", "rows", "columns")
    assert case.image.spacing_mm == (2.0, 1.5, 0.5)
    assert case.image.geometry is not None
    # Columns are stored from right to left and read from left to right.
    np.testing.assert_array_equal(case.image.array, pixels(4).transpose(2, 1, 0)[:, :, ::-1])
    np.testing.assert_array_equal(case.labels.indices(), labels(4).transpose(2, 1, 0)[:, :, ::-1])
    np.testing.assert_array_equal(case.image.geometry.to_stored(case.labels.indices()), labels(4))


def test_without_a_validation_list_splits_are_drawn(tmp_path: Path) -> None:
    root = msd(tmp_path, count=12, held_out=0, validation=None, modality={"0": "MRI"})
    dataset = open_decathlon(root, 3)
    assert set(splits(dataset)) == {"train", "val", "test"}
    assert dataset.normalize == "case"
    assert any("were drawn with seed 3" in str(note) for note in dataset.notes)
    assert dataset.fingerprint() == open_decathlon(root, 3).fingerprint() != open_decathlon(root, 4).fingerprint()


def test_several_channels_in_one_file(tmp_path: Path) -> None:
    dataset = open_decathlon(msd(tmp_path, channels=2, modality={"0": "FLAIR", "1": "T1w"}), 0)
    image = dataset.read(dataset.samples[1]).image
    assert image.axes == ("slices", "rows", "columns", "channels")
    np.testing.assert_array_equal(image.array, pixels(1, 2).transpose(2, 1, 0, 3)[:, :, ::-1])
    assert dataset.normalize == "case"


def test_the_first_nnunet_has_numbered_files_behind_the_listed_names(tmp_path: Path) -> None:
    root = msd(tmp_path, channels=2)
    for number in range(6):
        whole = root / f"imagesTr/liver_{number}.nii.gz"
        whole.unlink()
        for channel in range(2):
            save(root / f"imagesTr/liver_{number}_{channel:04d}.nii.gz", pixels(number, 2)[..., channel])
    dataset = open_decathlon(root, 0)
    image = dataset.read(dataset.samples[1]).image
    np.testing.assert_array_equal(image.array, pixels(1, 2).transpose(2, 1, 0, 3)[:, :, ::-1])


def test_the_second_nnunet_finds_files_by_name(tmp_path: Path) -> None:
    root = nnunet(tmp_path, ("a_1", "b_2", "c_3", "d_4"))
    (root / "splits_final.json").write_text(
        json.dumps([{"train": ["a_1", "c_3"], "val": ["b_2"]}, {"train": ["b_2"], "val": ["a_1"]}])
    )
    dataset = open_decathlon(root, 0)
    assert dataset.classes == ("kidney", "lesion")
    assert {sample.id: sample.split for sample in dataset.samples} == {
        "imagesTr/a_1.nii.gz": "train",
        "imagesTr/c_3.nii.gz": "train",
        "imagesTr/b_2.nii.gz": "val",
    }
    assert dataset.notes[0].where.endswith("splits_final.json")
    assert dataset.notes[0].text.startswith("1 cases ")
    case = dataset.read(dataset.split("val")[0])
    assert case.image.channels == 2
    for channel in range(2):
        stored = pixels(1 + 10 * channel).transpose(2, 1, 0)[:, :, ::-1]
        np.testing.assert_array_equal(case.image.array[..., channel], stored)
    np.testing.assert_array_equal(case.labels.planes[1], (labels(1) == 2).transpose(2, 1, 0)[:, :, ::-1])


def test_masks_of_a_test_folder_are_the_test_split(tmp_path: Path) -> None:
    root = nnunet(tmp_path, tuple(f"k_{number}" for number in range(8)), channels=1)
    save(root / "imagesTs/k_8_0000.nii.gz", pixels(8))
    save(root / "labelsTs/k_8.nii.gz", labels(8))
    dataset = open_decathlon(root, 0)
    assert [sample.id for sample in dataset.split("test")] == ["imagesTs/k_8.nii.gz"]
    assert splits(dataset) == {"train": 7, "val": 1, "test": 1}
    np.testing.assert_array_equal(
        dataset.read(dataset.split("test")[0]).labels.indices(), labels(8).transpose(2, 1, 0)[:, :, ::-1]
    )


def test_patients_are_read_from_names_that_tell_them(tmp_path: Path) -> None:
    cases = tuple(f"patient{number:03d}_frame{frame:02d}" for number in range(10) for frame in (1, 12))
    dataset = open_decathlon(nnunet(tmp_path / "heart", cases, channels=1), 0)
    assert {sample.patient for sample in dataset.samples} == {f"patient{number:03d}" for number in range(10)}
    assert dataset.faults == ()
    assert set(splits(dataset)) == {"train", "val", "test"}
    plain = open_decathlon(nnunet(tmp_path / "ct", ("ct_scan_1", "ct_scan_2", "ct_scan_3"), channels=1), 0)
    assert {sample.patient for sample in plain.samples} == {None}


def test_pictures_are_read_as_pictures(tmp_path: Path) -> None:
    shape = (9, 13)
    random = np.random.default_rng(5)
    colours = [random.integers(0, 256, (*shape, 3)).astype(np.uint8) for _ in range(3)]
    masks = [random.integers(0, 2, shape).astype(np.uint8) for _ in range(3)]
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        PillowImage.fromarray(colours[number]).save(tmp_path / f"imagesTr/road_{number}_0000.png")
        PillowImage.fromarray(masks[number]).save(tmp_path / f"labelsTr/road_{number}.png")
    table = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}}
    write_table(tmp_path, {**table, "numTraining": 3, "file_ending": ".png"})
    dataset = open_decathlon(tmp_path, 0)
    assert (dataset.volumes, dataset.normalize) == (False, "dataset")
    for sample in dataset.samples:
        number = int(sample.id[-5])
        case = dataset.read(sample)
        np.testing.assert_array_equal(case.image.array, colours[number])
        np.testing.assert_array_equal(case.labels.indices(), masks[number])


Change = Callable[[Path], Any]
LIVER = {"image": "./imagesTr/liver_0.nii.gz", "label": "./labelsTr/liver_0.nii.gz"}
FAULTS: list[tuple[str, Change, str, str]] = [
    ("not json", lambda r: (msd(r) / "dataset.json").write_text("{,"), "E-FORMAT", "/dataset.json"),
    ("a list", lambda r: (msd(r) / "dataset.json").write_text("[]"), "E-SYNTAX", "/dataset.json"),
    ("no training", lambda r: msd(r, training=None), "E-SYNTAX", "None"),
    ("no entries", lambda r: msd(r, training=[], validation=[]), "E-MISSING", "/dataset.json"),
    ("an entry without a label", lambda r: msd(r, training=["x.nii.gz"]), "E-SYNTAX", "training entry 1"),
    ("labels", lambda r: msd(r, labels=["a"]), "E-SYNTAX", "labels is ['a']"),
    ("label number", lambda r: msd(r, labels={"liver": "one"}), "E-SYNTAX", "'one'"),
    ("names twice", lambda r: msd(r, labels={"1": "liver", "2": "liver"}), "E-SYNTAX", "'liver'"),
    ("only background", lambda r: msd(r, labels={"0": "background"}), "E-LABEL", "class"),
    ("regions", lambda r: nnunet(r, ("a",), labels={"background": 0, "all": [1, 2]}), "E-UNSUPPORTED", "/dataset.json"),
    ("ignored", lambda r: nnunet(r, ("a",), labels={"background": 0, "x": 1, "ignore": 2}), "E-UNSUPPORTED", "ignore"),
    ("channels", lambda r: msd(r, modality=["CT"]), "E-SYNTAX", "['CT']"),
    ("absolute path", lambda r: msd(r, training=[{**LIVER, "image": "/etc/case.nii.gz"}]), "E-SECURITY", "'/etc/"),
    ("path above", lambda r: msd(r, training=[{**LIVER, "label": "../case.nii.gz"}]), "E-SECURITY", "'../case.nii.gz'"),
    ("path of no text", lambda r: msd(r, training=[{**LIVER, "label": 3}]), "E-SYNTAX", " 3 "),
    ("other format", lambda r: msd(r, training=[{**LIVER, "image": "imagesTr/x.mha"}]), "E-UNSUPPORTED", "x.mha"),
    ("other ending", lambda r: nnunet(r, ("a",), file_ending=".nrrd"), "E-UNSUPPORTED", "'.nrrd'"),
    ("an image twice", lambda r: msd(r, training=[LIVER, LIVER]), "E-LABEL", "imagesTr/liver_0.nii.gz"),
    ("in both lists", lambda r: msd(r, validation=[LIVER]), "E-LABEL", "imagesTr/liver_0.nii.gz"),
    ("missing image", lambda r: (msd(r) / "imagesTr/liver_1.nii.gz").unlink(), "E-MISSING", "/imagesTr/liver_1.nii.gz"),
    ("missing mask", lambda r: (msd(r) / "labelsTr/liver_1.nii.gz").unlink(), "E-MISSING", "/labelsTr/liver_1.nii.gz"),
    ("missing channel", lambda r: (nnunet(r, ("a",)) / "imagesTr/a_0001.nii.gz").unlink(), "E-MISSING", "a_0001"),
    ("mask alone", lambda r: save(nnunet(r, ("a",)) / "labelsTr/b.nii.gz", labels(1)), "E-MISSING", "b_0000"),
    ("value without a name", lambda r: save(msd(r) / "labelsTr/liver_1.nii.gz", labels(1) + 1), "E-LABEL",
     "value 3 "),
    ("mask not whole", lambda r: save(msd(r) / "labelsTr/liver_1.nii.gz", labels(1) + np.float32(0.5)), "E-LABEL",
     "/labelsTr/liver_1.nii.gz"),
    ("mask of another shape", lambda r: save(msd(r) / "labelsTr/liver_1.nii.gz", labels(1)[1:]), "E-GEOMETRY",
     "3x5x6"),
    ("mask elsewhere", lambda r: save(msd(r) / "labelsTr/liver_1.nii.gz", labels(1), np.diag([-0.5, 1.5, 2.2, 1])),
     "E-GEOMETRY", "0.4 mm"),
    ("channel elsewhere", lambda r: save(nnunet(r, ("a",)) / "imagesTr/a_0001.nii.gz", pixels(1), np.eye(4)),
     "E-GEOMETRY", "/imagesTr/a_0001.nii.gz"),
    ("4-D image", lambda r: save(msd(r) / "imagesTr/liver_1.nii.gz", pixels(1, 2)), "E-GEOMETRY", "imagesTr/liver_1"),
    ("3-D image", lambda r: save(msd(r, channels=2) / "imagesTr/liver_1.nii.gz", pixels(1)), "E-GEOMETRY",
     "/imagesTr/liver_1.nii.gz"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "text"), [pytest.param(*rest, id=title) for title, *rest in FAULTS])
def test_what_contradicts_itself_is_refused_in_one_line(change: Change, code: str, text: str, tmp_path: Path) -> None:
    change(tmp_path)
    line = fault(tmp_path)
    assert line.startswith(code)
    assert text in line


def test_a_value_without_a_name_is_said_with_its_file_and_the_known_ones(tmp_path: Path) -> None:
    save(msd(tmp_path) / "labelsTr/liver_1.nii.gz", np.full(SHAPE, 7, np.uint8))
    line = fault(tmp_path)
    assert "/labelsTr/liver_1.nii.gz" in line
    assert "value 7 in 105 places" in line
    assert "0, 1 (liver), 2 (tumour)" in line


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    root = msd(tmp_path / "Task")
    save(tmp_path / "other.nii.gz", labels(1))
    (root / "labelsTr/liver_1.nii.gz").unlink()
    (root / "labelsTr/liver_1.nii.gz").symlink_to(tmp_path / "other.nii.gz")
    assert "E-SECURITY" in fault(root)


def test_folds_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = nnunet(tmp_path, ("a", "b"), channels=1)
    for folds, code in (
        ([], "E-SYNTAX"),
        ([{"train": ["a"]}], "E-SYNTAX"),
        ([{"train": ["a", "b"], "val": ["b"]}], "E-LABEL"),
        ([{"train": ["a"], "val": ["c"]}], "E-MISSING"),
    ):
        (root / "splits_final.json").write_text(json.dumps(folds))
        assert fault(root).startswith(code), folds


def test_a_patient_in_two_splits_is_a_fault(tmp_path: Path) -> None:
    root = nnunet(tmp_path, ("p1_day1", "p1_day2", "p2_day1"), channels=1)
    (root / "splits_final.json").write_text(json.dumps([{"train": ["p1_day1", "p2_day1"], "val": ["p1_day2"]}]))
    line = fault(root)
    assert line.startswith("E-LABEL")
    assert "'p1'" in line
