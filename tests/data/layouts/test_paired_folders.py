"""Images with masks in folders: every arrangement, what values mean, and what is wrong, each in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.data import SegmentationDataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError

SHAPE = (9, 13)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(array).save(path)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng([number, 0]).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)


def mask(number: int, values: tuple[int, ...] = (0, 1), dtype: type = np.uint8) -> np.ndarray:
    array = np.random.default_rng([number, 1]).choice(values, SHAPE).astype(dtype)
    array.flat[: len(values)] = values
    return array


def pairs(root: Path, count: int = 10, *, masks: str = "masks", **options: object) -> Path:
    for number in range(count):
        write(root / "images" / f"{number:02d}.png", picture(number))
        write(root / masks / f"{number:02d}.png", mask(number, **options))  # type: ignore[arg-type]
    return root


def opened(path: Path) -> SegmentationDataset:
    return open_dataset(path, task="segment")


def refused(path: Path, code: ErrorCode) -> str:
    with pytest.raises(GossamerError) as caught:
        opened(path)
    assert caught.value.code is code, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


def faults(path: Path) -> list[str]:
    return [f"{fault.code.label} {fault}" for fault in opened(path).faults]


# --- arrangements


@pytest.mark.parametrize("masks", ["masks", "labels", "annotations"])
def test_flat_folders_get_a_seeded_split(tmp_path: Path, masks: str) -> None:
    dataset = opened(pairs(tmp_path, 20, masks=masks))
    assert dataset.layout == "paired_folders"
    assert (dataset.classes, dataset.overlapping, dataset.volumes) == (("foreground",), False, False)
    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [13, 3, 4]
    assert dataset.fingerprint() != open_dataset(tmp_path, seed=1).fingerprint()
    for sample in dataset.samples:
        case = dataset.read(sample)
        number = int(Path(sample.id).stem)
        np.testing.assert_array_equal(case.image.array, picture(number))
        np.testing.assert_array_equal(case.labels.planes[0], mask(number) == 1)


@pytest.mark.parametrize("pattern", ["{split}/{kind}/{number}.png", "{kind}/{split}/{number}.png"])
def test_splits_that_folders_state(tmp_path: Path, pattern: str) -> None:
    for number, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 3):
        write(tmp_path / pattern.format(split=split, kind="images", number=number), picture(number))
        write(tmp_path / pattern.format(split=split, kind="masks", number=number), mask(number))
    dataset = opened(tmp_path)
    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [6, 2, 3]
    assert dataset.faults == ()
    for sample in dataset.samples:
        np.testing.assert_array_equal(dataset.read(sample).labels.planes[0], mask(int(Path(sample.id).stem)) == 1)


def test_a_test_folder_without_masks_is_left_out(tmp_path: Path) -> None:
    pairs(tmp_path / "train")
    write(tmp_path / "test" / "images" / "77.png", picture(77))
    dataset = opened(tmp_path)
    assert {sample.split for sample in dataset.samples} == {"train", "val"}
    assert any("test/images/ has no masks" in note.text for note in dataset.notes)


@pytest.mark.parametrize("pattern", ["masks/{name}/{number}.png", "masks/{number}_{name}.png"])
def test_one_file_a_class_may_overlap(tmp_path: Path, pattern: str) -> None:
    for number in range(8):
        write(tmp_path / "images" / f"a_{number}.jpg", picture(number))
        for k, name in enumerate(("left_lung", "heart")):
            if (number, name) != (3, "heart"):
                write(tmp_path / pattern.format(name=name, number=f"a_{number}"), mask(10 * number + k, (0, 200)))
    dataset = opened(tmp_path)
    assert (dataset.classes, dataset.overlapping, dataset.faults) == (("heart", "left_lung"), True, ())
    assert any("1 masks of a class" in note.text for note in dataset.notes)
    for sample in dataset.samples:
        number = int(Path(sample.id).stem[2:])
        planes = dataset.read(sample).labels.planes
        np.testing.assert_array_equal(planes[1], mask(10 * number, (0, 200)) > 0)
        np.testing.assert_array_equal(planes[0], (mask(10 * number + 1, (0, 200)) > 0) & (number != 3))


def test_a_folder_inside_images_is_a_patient(tmp_path: Path) -> None:
    for number in range(24):
        for kind, array in (("images", picture(number)), ("masks", mask(number))):
            write(tmp_path / kind / f"p{number % 8}" / f"{number}.png", array)
    dataset = opened(tmp_path)
    assert dataset.faults == ()
    assert {sample.patient for sample in dataset.samples} == {f"p{k}" for k in range(8)}
    for k in range(8):
        assert len({sample.split for sample in dataset.samples if sample.patient == f"p{k}"}) == 1


# --- what values mean


@pytest.mark.parametrize(
    ("options", "classes", "words"),
    [
        ({"values": (0, 1)}, ("foreground",), None),
        ({"values": (0, 255)}, ("foreground",), None),
        ({"values": (0, 1), "dtype": np.uint16}, ("foreground",), None),
        ({"values": (0, 1, 2, 5)}, ("class 1", "class 2", "class 5"), "taken as classes"),
        ({"values": (0, 1, 2, 3), "dtype": np.uint16}, ("foreground",), "instance numbers"),
        ({"values": (0, 1, 60)}, ("foreground",), "instance numbers"),
        ({"values": tuple(range(26))}, ("foreground",), "instance numbers"),
    ],
)
def test_values_without_names(
    tmp_path: Path, options: dict[str, object], classes: tuple[str, ...], words: str | None
) -> None:
    dataset = opened(pairs(tmp_path, **options))
    assert dataset.classes == classes
    decided = [note.text for note in dataset.notes if "values" in note.text]
    assert len(decided) == (words is not None)
    assert all("classes.json" in text and str(words) in text for text in decided)
    sample = dataset.samples[0]
    truth = mask(int(Path(sample.id).stem), **options)  # type: ignore[arg-type]
    planes = dataset.read(sample).labels.planes
    if len(classes) == 1:
        np.testing.assert_array_equal(planes[0], truth > 0)
    else:
        np.testing.assert_array_equal(planes, [truth == value for value in (1, 2, 5)])


def test_names_of_values(tmp_path: Path) -> None:
    pairs(tmp_path, values=(0, 1, 4, 7))
    (tmp_path / "classes.json").write_text(json.dumps({"4": "tumour", "1": "liver", "7": "tumour", "0": "background"}))
    dataset = opened(tmp_path)
    assert dataset.classes == ("liver", "tumour")
    case = dataset.read(dataset.samples[0])
    truth = mask(int(Path(dataset.samples[0].id).stem), (0, 1, 4, 7))
    np.testing.assert_array_equal(case.labels.indices(), np.select([truth == 1, truth >= 4], [1, 2]))
    (tmp_path / "classes.json").write_text('["background", "a", "b", "c", "d"]')
    assert opened(tmp_path).classes == ("a", "b", "c", "d")
    (tmp_path / "classes.json").write_text('{"*": "nucleus"}')
    dataset = opened(tmp_path)
    assert dataset.classes == ("nucleus",)
    assert dataset.read(dataset.samples[0]).labels.planes.sum() == (truth > 0).sum()


def test_a_value_without_a_name(tmp_path: Path) -> None:
    pairs(tmp_path, values=(0, 1, 2))
    (tmp_path / "classes.json").write_text('{"1": "liver"}')
    dataset = opened(tmp_path)
    with pytest.raises(GossamerError, match=r"masks/\d\d.png: .* value 2.* 0 \(background\), 1 \(liver"):
        dataset.read(dataset.samples[0])


@pytest.mark.parametrize(
    "text", ['{"1": ""}', '{"one": "a"}', '{"-1": "a"}', "[]", '{"0": "a"}', '"a"', '{"*": "a", "2": "b"}', "[1, 2]"]
)
def test_names_that_are_none(tmp_path: Path, text: str) -> None:
    (pairs(tmp_path) / "classes.json").write_text(text)
    assert "classes.json" in refused(tmp_path, ErrorCode.LABEL)


# --- the table


def test_patients_and_splits_of_the_table(tmp_path: Path) -> None:
    pairs(tmp_path, 6)
    splits = ["train", "train", "train", "validation", "test", "test"]
    rows = [f"{n:02d},P{n // 2},{split}" for n, split in enumerate(splits)]
    (tmp_path / "index.csv").write_text("﻿id,patient,split\r\n" + "\r\n".join(rows))
    dataset = opened(tmp_path)
    assert {s.id: (s.patient, s.split) for s in dataset.samples}["images/03.png"] == ("P1", "val")
    assert [str(fault) for fault in dataset.faults if "'P1'" in str(fault)]
    assert len(dataset.faults) == 1


@pytest.mark.parametrize(
    ("rows", "code", "values"),
    [
        ("id,patient\n00,a\n99,b\n", ErrorCode.MISSING, ("row 3", "'99'")),
        ("id,patient\n00,a\n00.png,b\n", ErrorCode.LABEL, ("row 3", "'00.png'", "row 2")),
        ("image,split\nimages/00.png,train\n", ErrorCode.LABEL, ("'images/01.png'", "8 more")),
        (
            "id,split\n" + "".join(f"{n:02d},{'train' if n else ''}\n" for n in range(10)),
            ErrorCode.LABEL,
            ("row 2", "split"),
        ),
        ("id,patient\n00,a,b\n", ErrorCode.LABEL, ("row 2", "2 cells")),
    ],
)
def test_tables_that_contradict_the_images(tmp_path: Path, rows: str, code: ErrorCode, values: tuple[str, ...]) -> None:
    table = pairs(tmp_path) / "index.csv"
    table.write_text(rows)
    found = [fault for fault in opened(tmp_path).faults if fault.code is code and fault.where == str(table)]
    assert any(all(value in fault.problem for value in values) for fault in found), found


def test_splits_are_in_proportion_of_size_and_stain(tmp_path: Path) -> None:
    pairs(tmp_path, 60)
    kinds = {f"images/{n:02d}.png": (320 if n < 20 else 256, 40.8 if n % 2 else 0.0) for n in range(60)}
    lines = [f"{Path(name).stem},{width},256,{colour}" for name, (width, colour) in kinds.items()]
    (tmp_path / "index.csv").write_text("id,width,height,saturation\n" + "\n".join(lines))
    for seed in range(3):
        counts = Counter(kinds[s.id] for s in open_dataset(tmp_path, seed=seed).split("test"))
        assert counts == {(320, 0.0): 2, (320, 40.8): 2, (256, 0.0): 4, (256, 40.8): 4}


# --- what is wrong


def test_missing_masks_and_missing_images(tmp_path: Path) -> None:
    pairs(tmp_path)
    (tmp_path / "masks" / "03.png").unlink()
    (tmp_path / "images" / "05.png").unlink()
    found = faults(tmp_path)
    assert len(found) == 2
    assert any("images/03.png: has no mask masks/03.png" in fault for fault in found)
    assert any("masks/05.png: is a mask without an image" in fault for fault in found)
    assert {fault.split()[0] for fault in found} == {"E-MISSING"}
    with pytest.raises(GossamerError, match="1 more"):
        opened(tmp_path).require_trainable()


def test_two_images_of_one_name(tmp_path: Path) -> None:
    write(pairs(tmp_path) / "images" / "03.jpg", picture(3))
    assert any("E-LABEL" in fault and "03.jpg" in fault for fault in faults(tmp_path))


@pytest.mark.parametrize("pattern", ["masks/04.png", "masks/04_organ.png"])
def test_an_image_and_a_mask_of_different_shapes(tmp_path: Path, pattern: str) -> None:
    for number in range(8):
        write(tmp_path / "images" / f"{number:02d}.png", picture(number))
        write(tmp_path / pattern.replace("04", f"{number:02d}"), mask(number)[: 8 if number == 4 else 9])
    dataset = opened(tmp_path)
    bad = next(sample for sample in dataset.samples if sample.id == "images/04.png")
    with pytest.raises(GossamerError) as caught:
        dataset.read(bad)
    assert caught.value.code is ErrorCode.GEOMETRY
    assert "9x13" in caught.value.problem
    assert "8x13" in caught.value.problem


def test_nothing_to_pair(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    assert "images/" in refused(tmp_path, ErrorCode.MISSING)
    write(tmp_path / "images" / "a.png", picture(0))
    assert "masks/" in refused(tmp_path, ErrorCode.MISSING)
    write(tmp_path / "masks" / "b.png", mask(0))
    text = refused(tmp_path, ErrorCode.MISSING)
    assert "a.png" in text
    assert "b.png" in text


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    pairs(tmp_path)
    (tmp_path / "masks" / "02.png").write_bytes(b"")
    assert opened(tmp_path).classes == ("foreground",)  # one bad file does not hide the others
    for path in (tmp_path / "masks").iterdir():
        write(path, picture(0))
    refused(tmp_path, ErrorCode.UNSUPPORTED)


# --- tasks


def test_tasks_are_told_apart(tmp_path: Path) -> None:
    pairs(tmp_path / "masked")
    with pytest.raises(GossamerError, match=r"E-FORMAT.*paired_folders"):
        open_dataset(tmp_path / "masked", task="classify")
    assert isinstance(open_dataset(tmp_path / "masked"), SegmentationDataset)
    for number in range(8):
        write(tmp_path / "plain" / "ab"[number % 2] / f"{number}.png", picture(number))
    assert open_dataset(tmp_path / "plain").layout == "class_folders"
    with pytest.raises(GossamerError, match=r"E-FORMAT.*class_folders") as caught:
        open_dataset(tmp_path / "plain", task="segment")
    assert "images/<name>" in str(caught.value)
    assert "<class>/<image>" not in str(caught.value)
