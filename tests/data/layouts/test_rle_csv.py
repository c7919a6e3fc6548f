"""Slices with run lengths: volumes, overlapping masks, an order that is settled by looking, and every bad row named."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.data import SegmentationDataset, open_dataset
from gossamer.data.io import rle
from gossamer.data.layouts.rle_csv import StudyReader, open_rle_csv, write_run_lengths
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes

SHAPE, SLICES, CLASSES = (23, 31), 5, ("bowel", "stomach")


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) < radius


def truth(case: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return ``(classes, slices, rows, columns)``: two discs that overlap; the first slice is empty."""
    planes = np.zeros((2, SLICES, *shape), bool)
    for number in range(1, SLICES):
        planes[0, number] = disc(shape, (10 + case % 3, 12), 4 + number / 2)
        planes[1, number] = disc(shape, (10, 17), 5)
    return planes


def write_study(
    root: Path, case: int, day: int, *, shape: tuple[int, int] = SHAPE, name: str = "31_23_1.50_1.25"
) -> str:
    study = f"case{case}_day{day}"
    folder = root / "train" / f"case{case}" / study / "scans"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(SLICES):
        array = np.random.default_rng([case, day, number]).integers(0, 60000, shape).astype(np.uint16)
        suffix = f"_{name}" if name else ""
        PillowImage.fromarray(array).save(folder / f"slice_{number + 1:04d}{suffix}.png")
    return study


def rows_of(study: str, planes: np.ndarray, order: rle.Order) -> list[list[str]]:
    return [
        [f"{study}_slice_{number + 1:04d}", label, rle.encode_rle(planes[k, number], order)]
        for number in range(SLICES)
        for k, label in enumerate(CLASSES)
    ]


def write_table(root: Path, rows: list[list[str]]) -> None:
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "class", "segmentation"], *rows])


def gi_tract(root: Path, *, order: rle.Order = "rows", cases: int = 6) -> list[list[str]]:
    rows = [
        row
        for case in range(1, cases + 1)
        for day in (0, 4)
        for row in rows_of(write_study(root, case, day), truth(case), order)
    ]
    write_table(root, rows)
    return rows


def opened(path: Path) -> SegmentationDataset:
    return open_dataset(path, task="segment")


def refused(path: Path, code: ErrorCode) -> str:
    with pytest.raises(GossamerError) as caught:
        opened(path)
    assert caught.value.code is code, caught.value
    return str(caught.value)


@pytest.mark.parametrize("order", rle.ORDERS)
def test_volumes_with_overlapping_masks(tmp_path: Path, order: rle.Order) -> None:
    gi_tract(tmp_path, order=order)
    dataset = opened(tmp_path)
    assert (dataset.layout, dataset.classes, dataset.normalize) == ("rle_csv", CLASSES, "slice")
    assert (dataset.overlapping, dataset.volumes, dataset.faults) == (True, True, ())
    assert any(order in note.text for note in dataset.notes)
    for sample in dataset.samples:
        assert sample.patient == sample.id.split("_")[0]
        assert sample.labels == (0, 1)
        case = dataset.read(sample)
        assert case.image.array.shape == (SLICES, *SHAPE)
        assert case.image.array.dtype == np.uint16
        assert case.image.spacing_mm == (3.0, 1.25, 1.5)
        number, day = int(sample.id[4]), int(sample.id[-1])
        first = np.random.default_rng([number, day, 0]).integers(0, 60000, SHAPE)
        np.testing.assert_array_equal(case.image.array[0], first)
        np.testing.assert_array_equal(case.labels.planes, truth(number))
        assert case.labels.planes.all(axis=0).any()


def test_splits_are_by_case(tmp_path: Path) -> None:
    gi_tract(tmp_path)
    for seed in range(3):
        dataset = open_dataset(tmp_path, seed=seed)
        assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [8, 2, 2]
        for case in range(1, 7):
            assert len({sample.split for sample in dataset.samples if sample.patient == f"case{case}"}) == 1


def test_the_shape_is_that_of_the_picture(tmp_path: Path) -> None:
    write_table(tmp_path, rows_of(write_study(tmp_path, 1, 0, name="23_31_1.50_1.25"), truth(1), "rows"))
    dataset = opened(tmp_path)
    np.testing.assert_array_equal(dataset.read(dataset.samples[0]).labels.planes, truth(1))


def test_names_without_mm_have_no_spacing(tmp_path: Path) -> None:
    write_table(tmp_path, rows_of(write_study(tmp_path, 1, 0, name=""), truth(1), "rows"))
    dataset = opened(tmp_path)
    assert dataset.read(dataset.samples[0]).image.spacing_mm is None
    assert any("1 studies: case1_day0" in note.text for note in dataset.notes)


def test_a_study_without_any_mask_is_kept_and_one_without_rows_is_not(tmp_path: Path) -> None:
    rows = gi_tract(tmp_path)
    empty = write_study(tmp_path, 7, 0)
    write_study(tmp_path, 8, 0)
    write_table(tmp_path, rows + rows_of(empty, np.zeros((2, SLICES, *SHAPE), bool), "rows"))
    dataset = opened(tmp_path)
    sample = next(sample for sample in dataset.samples if sample.id == empty)
    assert sample.labels == ()
    assert not dataset.read(sample).labels.planes.any()
    assert "case8_day0" not in {sample.id for sample in dataset.samples}
    assert any(note.text.endswith(": case8_day0") for note in dataset.notes)


# --- the order


def square(root: Path, order: rle.Order, shape: tuple[int, int] = (29, 29)) -> np.ndarray:
    """Write a study of square slices whose body is a wide ellipse, with organs at its left and right ends."""
    study = write_study(root, 1, 0, shape=shape, name="29_29_1.5_1.5")
    y, x = np.mgrid[: shape[0], : shape[1]]
    body = ((y - 14) / 6) ** 2 + ((x - 14) / 13) ** 2 < 1
    for path in (root / "train" / "case1" / study / "scans").iterdir():
        PillowImage.fromarray((body * 900 + 20).astype(np.uint16)).save(path)
    planes = np.zeros((2, SLICES, *shape), bool)
    planes[0, 1:], planes[1, 1:] = disc(shape, (14, 4), 2.5), disc(shape, (14, 24), 2.5)
    write_table(root, rows_of(study, planes, order))
    return planes


@pytest.mark.parametrize("order", rle.ORDERS)
def test_square_slices_are_settled_by_the_body(tmp_path: Path, order: rle.Order) -> None:
    planes = square(tmp_path, order)
    dataset = opened(tmp_path)
    assert any(f"along {order}" in note.text for note in dataset.notes)
    np.testing.assert_array_equal(dataset.read(dataset.samples[0]).labels.planes, planes)


def test_an_order_that_nothing_tells_must_be_said(tmp_path: Path) -> None:
    planes = square(tmp_path, "columns")
    for path in (tmp_path / "train").rglob("*.png"):
        PillowImage.fromarray(np.full((29, 29), 500, np.uint16)).save(path)
    assert "rle_order.txt" in refused(tmp_path, ErrorCode.LABEL)
    (tmp_path / "rle_order.txt").write_text("columns\n")
    dataset = opened(tmp_path)
    np.testing.assert_array_equal(dataset.read(dataset.samples[0]).labels.planes, planes)
    (tmp_path / "rle_order.txt").write_text("diagonals")
    assert str(tmp_path / "rle_order.txt") in refused(tmp_path, ErrorCode.LABEL)
    argued = open_rle_csv(tmp_path, 0, order="columns")
    np.testing.assert_array_equal(argued.read(argued.samples[0]).labels.planes, planes)


def test_slices_that_contradict_each_other_settle_nothing(tmp_path: Path) -> None:
    rows = gi_tract(tmp_path)
    rows[-2 * SLICES :] = rows_of("case6_day4", truth(6), "columns")
    write_table(tmp_path, rows)
    assert "11 say rows, 1 columns" in refused(tmp_path, ErrorCode.LABEL)


def test_small_masks_do_not_outvote_telling_ones(tmp_path: Path) -> None:
    rows = gi_tract(tmp_path)
    for row in rows[-2 * SLICES :]:
        row[2] = "40 1" if row[0].endswith("3") else ""
    write_table(tmp_path, rows)
    assert any("of 11 slices" in note.text for note in opened(tmp_path).notes)


# --- what is wrong


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (["case1_day0_slice_0099", "bowel", "1 2"], ErrorCode.MISSING, "row 122 (case1_day0_slice_0099)"),
        (["case9_day0_slice_0001", "bowel", ""], ErrorCode.MISSING, "row 122 (case9_day0_slice_0001)"),
        (["nonsense", "bowel", ""], ErrorCode.MISSING, "row 122 (nonsense)"),
        (["case1_day0_slice_0001", "bowel", ""], ErrorCode.LABEL, "row 2"),
        (["case1_day0_slice_0001", "", ""], ErrorCode.LABEL, "row 122"),
        (["case1_day0_slice_0001", "bowel"], ErrorCode.LABEL, "row 122"),
    ],
)
def test_rows_that_contradict_the_pictures(tmp_path: Path, row: list[str], code: ErrorCode, words: str) -> None:
    write_table(tmp_path, [*gi_tract(tmp_path), row])
    (fault,) = opened(tmp_path).faults
    assert fault.code is code
    assert words in str(fault)


@pytest.mark.parametrize("text", [f"{23 * 31 - 1} 3", "5 10 8 2", "-5 3", "1.0 3.0", "-1", "1 99999999999"])
def test_bad_run_lengths_are_named_when_they_are_read(tmp_path: Path, text: str) -> None:
    rows = gi_tract(tmp_path)
    rows[0][2] = text
    write_table(tmp_path, rows)
    dataset = opened(tmp_path)
    bad = next(sample for sample in dataset.samples if sample.id == "case1_day0")
    with pytest.raises(GossamerError, match=r"row 2 \(case1_day0_slice_0001\)") as caught:
        dataset.read(bad)
    assert caught.value.code is ErrorCode.LABEL


def test_slices_of_different_shapes(tmp_path: Path) -> None:
    gi_tract(tmp_path)
    path = next((tmp_path / "train/case1/case1_day0/scans").glob("slice_0004*"))
    PillowImage.fromarray(np.zeros((23, 30), np.uint16)).save(path)
    dataset = opened(tmp_path)
    bad = next(sample for sample in dataset.samples if sample.id == "case1_day0")
    with pytest.raises(GossamerError) as caught:
        dataset.read(bad)
    assert (caught.value.code, caught.value.where) == (ErrorCode.GEOMETRY, str(path))
    assert "23x30" in caught.value.problem
    assert "23x31" in caught.value.problem


def test_slices_of_different_spacings_or_one_number(tmp_path: Path) -> None:
    gi_tract(tmp_path)
    path = next((tmp_path / "train/case1/case1_day0/scans").glob("slice_0004*"))
    other = path.rename(path.with_name("slice_0004_31_23_2.00_1.25.png"))
    assert "2x1.25 mm" in refused(tmp_path, ErrorCode.GEOMETRY)
    path.write_bytes(other.read_bytes())
    assert "slice_0004" in refused(tmp_path, ErrorCode.LABEL)


def test_slices_without_rows_and_numbers_left_out_are_told(tmp_path: Path) -> None:
    rows = gi_tract(tmp_path)
    write_table(tmp_path, rows[2:])
    next((tmp_path / "train/case2/case2_day0/scans").glob("slice_0003*")).unlink()
    dataset = opened(tmp_path)
    texts = [note.text for note in dataset.notes]
    assert any(text.endswith(": case1_day0_slice_0001") for text in texts)
    assert any(text.endswith(": case2_day0") for text in texts)
    assert len(dataset.faults) == 2


def test_nothing_there(tmp_path: Path) -> None:
    gi_tract(tmp_path, cases=1)
    write_table(tmp_path, [])
    refused(tmp_path, ErrorCode.MISSING)
    for path in (tmp_path / "train").rglob("*.png"):
        path.unlink()
    assert "slice_<number>" in refused(tmp_path, ErrorCode.MISSING)
    with pytest.raises(GossamerError, match=r"E-FORMAT.*rle_csv"):
        open_dataset(tmp_path, task="classify")


# --- back again


@pytest.mark.parametrize("order", rle.ORDERS)
def test_written_predictions_are_the_rows_that_were_read(tmp_path: Path, order: rle.Order) -> None:
    rows = gi_tract(tmp_path, order=order, cases=2)
    dataset = opened(tmp_path)
    reader = dataset.reader
    assert isinstance(reader, StudyReader)
    cases = [(reader.studies[sample.id], dataset.read(sample).labels) for sample in dataset.samples]
    write_run_lengths(tmp_path / "predicted.csv", cases, reader.order)
    found = list(csv.reader(read_bytes(tmp_path / "predicted.csv").decode().splitlines()))
    assert found[0] == ["id", "class", "predicted"]
    assert sorted(found[1:]) == sorted(rows)
    with pytest.raises(ValueError, match="slices"):
        write_run_lengths(
            tmp_path / "p.csv", [(cases[0][0], type(cases[0][1])(cases[0][1].planes[:, :2], CLASSES, True, ""))]
        )
    assert not (tmp_path / "p.csv").exists()
