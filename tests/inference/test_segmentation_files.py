"""Masks go back into the format and place of their image, and one bad image does not stop the others."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from gossamer.data.io import rle
from gossamer.data.transforms import Preprocessing, Respace
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow
from gossamer.inference.segmentation_files import SegmentationResults, find_inputs, predict_inputs

CLASSES = ("liver", "large bowel")
SHAPE = (11, 8, 5)
SPACING, PLACE = (0.75, 1.5, 2.5), (-11.0, 23.0, 5.5)
# The world axis that each stored axis runs along, and in which sense.
ORIENTATIONS = {
    "RAS": ((0, 1, 2), (1, 1, 1)),
    "LPS": ((0, 1, 2), (-1, -1, 1)),
    "PIR": ((1, 2, 0), (-1, -1, 1)),
    "SAL": ((2, 1, 0), (1, 1, -1)),
    "ILP": ((2, 0, 1), (-1, -1, -1)),
}


class Identity:
    """Says of a pixel of value k that it is of class k, or of the classes whose bits k has."""

    def __init__(self, overlapping: bool) -> None:
        self.overlapping = overlapping

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits ``(batch, classes, rows, columns)`` of the slice in the middle."""
        values = images[:, images.shape[1] // 2, None]
        if self.overlapping:
            bits = np.rint(values).astype(np.int64) >> np.arange(2)[:, None, None] & 1
            logits = 20.0 * (bits - 0.5)
        else:
            logits = -10.0 * np.square(values - np.arange(3)[:, None, None])
        return logits.astype(np.float32)


def model(
    *,
    overlapping: bool = False,
    stack: int = 1,
    steps: tuple[object, ...] = (),
    channels: int = 1,
    numbered: bool = False,
) -> SegmentationPredictor:
    return SegmentationPredictor(
        network=Identity(overlapping),
        preprocessing=Preprocessing(steps),
        windows=SlidingWindow((8, 16), stack),
        classes=CLASSES,
        multi_label=overlapping,
        channels=channels,
        numbered=numbered,
    )


def values(shape: tuple[int, ...], top: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(np.uint8)


def turned(name: str) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for stored, (world, sign) in enumerate(zip(*ORIENTATIONS[name], strict=True)):
        affine[world, stored] = sign * SPACING[stored]
    affine[:3, 3] = PLACE
    cosine, sine = np.cos(0.17), np.sin(0.17)  # real heads lie askew
    return np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine


def volume(path: Path, array: np.ndarray, orientation: str = "RAS", code: str = "sform") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, turned(orientation))
    image.set_sform(turned(orientation), 2 if code == "sform" else 0)
    image.set_qform(turned(orientation), 1 if code == "qform" else 0)
    nibabel.save(image, path)
    return path


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        PillowImage.fromarray(array).save(path)
    return path


def study(root: Path, case: int, day: int, array: np.ndarray) -> None:
    scans = root / "train" / f"case{case}" / f"case{case}_day{day}" / "scans"
    for number, plane in enumerate(array, start=1):
        picture(scans / f"slice_{number:04d}_13_9_1.50_1.25.png", plane.astype(np.uint16))


def masks_of(out: Path, asked: SegmentationPredictor, *paths: Path, **options: object) -> SegmentationResults:
    out.mkdir(exist_ok=True)
    return predict_inputs(asked, find_inputs(asked, paths), out, **options)  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("code", ["sform", "qform"])
@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_a_nifti_comes_back_in_its_own_place_and_order(orientation: str, code: str, tmp_path: Path) -> None:
    stored = values(SHAPE)
    path = volume(tmp_path / "case 7.nii.gz", stored.astype(np.float32), orientation, code)
    results = masks_of(tmp_path / "out", model(stack=3), path)
    assert results.files == [tmp_path / "out" / "case 7.nii.gz"]
    given, found = nibabel.load(path), nibabel.load(results.files[0])
    np.testing.assert_array_equal(np.asarray(found.dataobj), stored)
    np.testing.assert_array_equal(found.affine, given.affine)
    for form in ("get_sform", "get_qform"):
        (there, stated), (back, kept) = (getattr(image, form)(coded=True) for image in (given, found))
        assert kept == stated
        np.testing.assert_array_equal(back, there) if stated else None
    assert found.header.get_zooms() == given.header.get_zooms()
    assert np.issubdtype(found.get_data_dtype(), np.unsignedinteger)


def test_a_respaced_nifti_comes_back_on_its_own_grid(tmp_path: Path) -> None:
    """Blocks of a class stay where they are, whichever stored axis they lie along."""
    stored = values((3, 4, 2)).repeat(8, axis=0).repeat(6, axis=1).repeat(2, axis=2)
    path = volume(tmp_path / "case.nii", stored, "PIR")
    (file,) = masks_of(tmp_path / "out", model(steps=(Respace(1.0, 1.0),)), path).files
    assert file.name == "case.nii"
    found = nibabel.load(file)
    np.testing.assert_array_equal(found.affine, nibabel.load(path).affine)
    assert found.shape == stored.shape
    assert (np.asarray(found.dataobj) == stored).mean() > 0.8


def test_sizes_are_millilitres_square_millimetres_or_pixels(tmp_path: Path) -> None:
    stored, plane = values(SHAPE), values((9, 14))
    paths = volume(tmp_path / "a.nii.gz", stored), picture(tmp_path / "b.png", plane)
    masks_of(tmp_path / "out", model(), *paths)
    table = rows(tmp_path / "out" / "sizes.csv")
    assert [(row["path"], row["class"], row["unit"]) for row in table] == [
        (str(path), name, unit) for path, unit in zip(paths, ("ml", "px"), strict=True) for name in CLASSES
    ]
    counts = [(part == k).sum() for part in (stored, plane) for k in (1, 2)]
    voxel = 0.75 * 1.5 * 2.5 / 1000
    wanted = [counts[0] * voxel, counts[1] * voxel, counts[2], counts[3]]
    assert [float(row["size"]) for row in table] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "written"),
    [("a.png", "a.png"), ("a.b.png", "a.b.png"), ("a.tif", "a.tif"), ("a.TIFF", "a.TIFF"), ("a.jpg", "a.png")],
)
def test_a_picture_comes_back_as_what_it_was(name: str, written: str, tmp_path: Path) -> None:
    array = np.ones((21, 34), np.uint8) if name.endswith("jpg") else values((21, 34))
    path = tmp_path / name
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        picture(path, array)
    (file,) = masks_of(tmp_path / "out", model(), path).files
    assert file == tmp_path / "out" / written
    found = tifffile.imread(file) if written.lower().endswith((".tif", ".tiff")) else np.asarray(PillowImage.open(file))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


def test_overlapping_classes_are_a_file_each(tmp_path: Path) -> None:
    stored, plane = values(SHAPE, 3), values((21, 34), 3)
    paths = volume(tmp_path / "v.nii.gz", stored, "LPS"), picture(tmp_path / "p.tif", plane)
    results = masks_of(tmp_path / "out", model(overlapping=True), *paths)
    assert [file.name for file in results.files] == [
        "v_liver.nii.gz", "v_large bowel.nii.gz", "p_liver.tif", "p_large bowel.tif",
    ]  # fmt: skip
    for bit in range(2):
        found = nibabel.load(results.files[bit])
        np.testing.assert_array_equal(np.asarray(found.dataobj), stored >> bit & 1)
        np.testing.assert_array_equal(found.affine, nibabel.load(paths[0]).affine)
        np.testing.assert_array_equal(tifffile.imread(results.files[2 + bit]), plane >> bit & 1)


@pytest.mark.parametrize("order", rle.ORDERS)
def test_studies_come_back_as_run_lengths(order: rle.Order, tmp_path: Path) -> None:
    studies = {(case, day): values((4, 9, 13), 3, case + day) for case, day in ((1, 0), (1, 20), (3, 2))}
    for (case, day), array in studies.items():
        study(tmp_path / "data", case, day, array)
    out = tmp_path / "out"
    results = masks_of(out, model(overlapping=True, stack=3), tmp_path / "data", order=order)
    assert results.files == [out / "submission.csv"]
    table = {(row["id"], row["class"]): row["predicted"] for row in rows(out / "submission.csv")}
    assert len(table) == 3 * 4 * 2
    for (case, day), array in studies.items():
        for index, bit in np.ndindex(4, 2):
            text = table[f"case{case}_day{day}_slice_{index + 1:04d}", CLASSES[bit]]
            found = rle.decode_rle(text, (9, 13), order, "test")
            np.testing.assert_array_equal(found, array[index] >> bit & 1)
    sizes = rows(out / "sizes.csv")
    assert {row["path"] for row in sizes} == {"case1_day0", "case1_day20", "case3_day2"}
    assert float(sizes[0]["size"]) == pytest.approx(int((studies[1, 0] & 1).sum()) * 3 * 1.5 * 1.25 / 1000, rel=1e-5)


def test_pictures_next_to_studies_are_kept(tmp_path: Path) -> None:
    study(tmp_path / "data", 1, 0, values((4, 9, 13), 3))
    path = picture(tmp_path / "p.png", values((21, 34), 3))
    results = masks_of(tmp_path / "out", model(overlapping=True), tmp_path / "data", path)
    assert {file.name for file in results.files} == {"submission.csv", "p_liver.png", "p_large bowel.png"}
    assert all(file.is_file() for file in results.files)


def test_folders_are_searched_and_their_names_kept_apart(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "y.nii.gz", ".hidden.png"):
        path = tmp_path / "in" / name
        volume(path, values(SHAPE)) if name.endswith("gz") else picture(path, values((9, 14)))
    (tmp_path / "in" / "notes.txt").write_text("x")
    results = masks_of(tmp_path / "out", model(), tmp_path / "in")
    assert [file.name for file in results.files] == ["a-x.png", "b-x.png", "y.nii.gz"]


@pytest.mark.parametrize(
    ("names", "masks"),
    [
        (("a/x.png", "b/x.png"), ["a-x.png", "b-x.png"]),
        (("in/x.png", "in/x.tif"), ["in-x-png.png", "in-x-tif.tif"]),
        (("in/x.nii", "in/y.nii.gz"), ["x.nii", "y.nii.gz"]),
    ],
)
def test_names_that_occur_twice_get_their_folder_or_their_suffix(
    names: tuple[str, str], masks: list[str], tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert [entry.name for entry in find_inputs(model(), paths)] == masks


def test_one_file_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(GossamerError) as caught:
        find_inputs(model(), [tmp_path / "x.png", tmp_path / "x.png"])
    assert caught.value.code is ErrorCode.OUTPUT


def test_masks_inside_a_folder_of_images_are_skipped(tmp_path: Path) -> None:
    for name in ("images/x.png", "masks/x.png", "train/images/y.png", "train/labels/y.png"):
        picture(tmp_path / name, values((9, 14)))
    assert [entry.name for entry in find_inputs(model(), [tmp_path])] == ["images-x.png", "train-images-y.png"]
    assert [entry.name for entry in find_inputs(model(), [tmp_path / "masks"])] == ["x.png"]


def test_numbered_channels_are_one_image(tmp_path: Path) -> None:
    for case, channels in (("p", 2), ("q", 2)):
        for number in range(channels):
            volume(tmp_path / f"{case}_{number:04d}.nii.gz", values(SHAPE) + number)
    two = model(channels=2, numbered=True)
    inputs = find_inputs(two, [tmp_path])
    assert [(entry.name, len(entry.files)) for entry in inputs] == [("p.nii.gz", 2), ("q.nii.gz", 2)]
    image = inputs[0].read(two)
    assert image.channels == 2
    np.testing.assert_array_equal(image.array[..., 1], image.array[..., 0] + 1)
    assert len(find_inputs(model(channels=2), [tmp_path])) == 4  # this predictor's files are not numbered
    (tmp_path / "q_0001.nii.gz").rename(tmp_path / "q_0002.nii.gz")
    with pytest.raises(GossamerError) as caught:
        find_inputs(two, [tmp_path])
    assert (caught.value.code, caught.value.where) == (ErrorCode.MISSING, str(tmp_path / "q.nii.gz"))
    assert "0, 2" in caught.value.problem
    (single := tmp_path / "one").mkdir()
    volume(single / "r_0000.nii.gz", values(SHAPE))
    assert [entry.name for entry in find_inputs(model(numbered=True), [single])] == ["r.nii.gz"]


def test_paths_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for paths in ([tmp_path / "absent.nii"], [tmp_path], []):
        with pytest.raises(GossamerError) as caught:
            find_inputs(model(), paths)
        assert caught.value.code is ErrorCode.MISSING


def test_unusable_inputs_are_listed_and_others_continue(tmp_path: Path) -> None:
    good = volume(tmp_path / "a.nii.gz", values(SHAPE))
    broken = tmp_path / "b.nii.gz"
    broken.write_bytes(good.read_bytes()[:-30])
    flat = picture(tmp_path / "c.png", values((9, 14)))  # states no spacing
    four = volume(tmp_path / "d.nii", values((*SHAPE, 2)))
    last = volume(tmp_path / "e.nii", values(SHAPE))
    asked = model(steps=(Respace(2.0, 2.0),))
    ticks: list[tuple[int, int]] = []
    results = masks_of(tmp_path / "out", asked, tmp_path, update=lambda done, total: ticks.append((done, total)))
    assert [file.name for file in results.files] == ["a.nii.gz", "e.nii"]
    assert [path for path, _ in results.errors] == [broken, flat, four]
    codes = [error.code for _, error in results.errors]
    assert codes == [ErrorCode.TRUNCATED, ErrorCode.GEOMETRY, ErrorCode.GEOMETRY]
    assert ticks == [(done, 5) for done in range(1, 6)]
    assert [row["path"] for row in rows(tmp_path / "out" / "sizes.csv")] == [str(good)] * 2 + [str(last)] * 2
    with pytest.raises(GossamerError) as caught:
        masks_of(tmp_path / "strict", asked, good, broken, last, strict=True)
    assert caught.value.code is ErrorCode.TRUNCATED


def test_a_bad_study_does_not_stop_the_others(tmp_path: Path) -> None:
    for case in (1, 2, 3):
        study(tmp_path / "data", case, 0, values((4, 9, 13), 3, case))
    scans = tmp_path / "data" / "train" / "case2" / "case2_day0" / "scans"
    picture(scans / "slice_0002_13_9_1.50_1.25.png", np.zeros((5, 6), np.uint16))
    results = masks_of(tmp_path / "out", model(overlapping=True), tmp_path / "data")
    assert [error.code for _, error in results.errors] == [ErrorCode.GEOMETRY]
    ids = {row["id"].rpartition("_slice_")[0] for row in rows(tmp_path / "out" / "submission.csv")}
    assert ids == {"case1_day0", "case3_day0"}
