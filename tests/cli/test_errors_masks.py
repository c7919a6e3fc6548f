"""Bad images and masks get one clear line through the command line, and no run folder is left behind."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.cli.main import run
from gossamer.data.synthetic.abdomen import write_abdomen

SHAPE = (9, 7, 4)
BAD = 5
"""The case that is spoilt; every case is read before training begins, whatever its split."""


def png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(array.astype(np.uint8)).save(path)


def pictures(root: Path) -> Path:
    """Ten pictures with masks of one named class."""
    for number in range(10):
        generator = np.random.default_rng(number)
        png(root / "images" / f"{number}.png", generator.integers(0, 255, (12, 17)))
        png(root / "masks" / f"{number}.png", generator.integers(0, 2, (12, 17)))
    (root / "classes.json").write_text('{"1": "nucleus"}')
    return root


def nifti(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(nibabel.Nifti1Image(array, np.diag([0.5, 1.5, 2.0, 1.0])).to_bytes())


def voxels(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(100, 20, SHAPE).astype(np.float32)


def volumes(root: Path) -> Path:
    """Ten volumes with masks of two classes."""
    for number in range(10):
        nifti(root / "imagesTr" / f"c{number}.nii", voxels(number))
        nifti(root / "labelsTr" / f"c{number}.nii", np.random.default_rng(number).integers(0, 3, SHAPE).astype("u1"))
    entries = [{"image": f"imagesTr/c{number}.nii", "label": f"labelsTr/c{number}.nii"} for number in range(10)]
    table = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "head", "2": "tail"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(table))
    return root


def slices(root: Path) -> Path:
    return write_abdomen(root, cases=6, days=1, slices=4, size=(24, 30))


def picture_and_mask_of_different_shapes(root: Path) -> None:
    png(pictures(root) / "masks" / f"{BAD}.png", np.ones((12, 16)))


def volume_and_mask_of_different_shapes(root: Path) -> None:
    nifti(volumes(root) / "labelsTr" / f"c{BAD}.nii", np.ones((9, 7, 3), "u1"))


def mask_value_without_a_name(root: Path) -> None:
    png(pictures(root) / "masks" / f"{BAD}.png", np.full((12, 17), 2))


def voxel_without_a_name(root: Path) -> None:
    nifti(volumes(root) / "labelsTr" / f"c{BAD}.nii", np.full(SHAPE, 3, "u1"))


def missing_mask(root: Path) -> None:
    (pictures(root) / "masks" / f"{BAD}.png").unlink()


def missing_mask_of_a_volume(root: Path) -> None:
    (volumes(root) / "labelsTr" / f"c{BAD}.nii").unlink()


def degenerate_affine(root: Path) -> None:
    path = volumes(root) / "imagesTr" / f"c{BAD}.nii"
    data = bytearray(path.read_bytes())
    for row in range(3):
        struct.pack_into("<f", data, 280 + 16 * row + 4, 0.0)  # the second axis goes nowhere
    path.write_bytes(data)


def affine_that_is_no_number(root: Path) -> None:
    path = volumes(root) / "imagesTr" / f"c{BAD}.nii"
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 280, float("nan"))
    path.write_bytes(data)


def voxel_that_is_no_number(root: Path) -> None:
    array = voxels(BAD)
    array[3, 2, 1] = np.nan
    nifti(volumes(root) / "imagesTr" / f"c{BAD}.nii", array)


def run_beyond_the_image(root: Path) -> None:
    table = slices(root) / "train.csv"
    rows = table.read_text().splitlines()
    number = next(k for k, row in enumerate(rows) if row.startswith("case3") and not row.endswith(","))
    identity, label, _ = rows[number].split(",")
    rows[number] = f"{identity},{label},715 20"  # 24 x 30 pixels are 720
    table.write_text("\n".join(rows) + "\n")


def four_axes(root: Path) -> None:
    nifti(volumes(root) / "imagesTr" / f"c{BAD}.nii", np.stack([voxels(1), voxels(2)], axis=-1))


def mask_with_four_axes(root: Path) -> None:
    nifti(volumes(root) / "labelsTr" / f"c{BAD}.nii", np.ones((*SHAPE, 2), "u1"))


def no_slice_in_a_volume(root: Path) -> None:
    nifti(volumes(root) / "imagesTr" / f"c{BAD}.nii", np.ones((9, 7, 0), np.float32))


def no_slice_in_a_study(root: Path) -> None:
    for path in slices(root).glob("train/case3/*/scans/*.png"):
        path.unlink()


def no_slice_in_any_study(root: Path) -> None:
    for path in slices(root).glob("train/*/*/scans/*.png"):
        path.unlink()


def no_row_for_any_slice(root: Path) -> None:
    table = slices(root) / "train.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")


def no_picture_in_the_training_split(root: Path) -> None:
    np.savez(root / "a.npz", train_images=np.zeros((0, 8, 9), "u1"), train_masks=np.zeros((0, 8, 9), "u1"))


def no_case_is_listed(root: Path) -> None:
    path = volumes(root) / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "training": []}))


CASES: list[tuple[Callable[[Path], None], int, str, tuple[str, ...]]] = [
    (picture_and_mask_of_different_shapes, 65, "E-GEOMETRY", ("masks/5.png", "12x17", "12x16")),
    (volume_and_mask_of_different_shapes, 65, "E-GEOMETRY", ("labelsTr/c5.nii",)),
    (mask_value_without_a_name, 65, "E-LABEL", ("masks/5.png", "value 2", "1 (nucleus)")),
    (voxel_without_a_name, 65, "E-LABEL", ("labelsTr/c5.nii", "value 3", "2 (tail)")),
    (missing_mask, 66, "E-MISSING", ("images/5.png", "masks/5.png")),
    (missing_mask_of_a_volume, 66, "E-MISSING", ("labelsTr/c5.nii",)),
    (degenerate_affine, 65, "E-GEOMETRY", ("imagesTr/c5.nii", "axis 1")),
    (affine_that_is_no_number, 65, "E-GEOMETRY", ("imagesTr/c5.nii", "NaN")),
    (voxel_that_is_no_number, 65, "E-VALUE", ("imagesTr/c5.nii", "1 of 252")),
    (run_beyond_the_image, 65, "E-LABEL", ("case3", "run 715 20", "24x30", "720")),
    (four_axes, 65, "E-GEOMETRY", ("imagesTr/c5.nii", "9x7x4x2")),
    (mask_with_four_axes, 65, "E-GEOMETRY", ("labelsTr/c5.nii", "9x7x4x2")),
    (no_slice_in_a_volume, 65, "E-SYNTAX", ("imagesTr/c5.nii", "dim")),
    (no_slice_in_a_study, 66, "E-MISSING", ("case3",)),
    (no_slice_in_any_study, 66, "E-MISSING", ("slice_<number>",)),
    (no_row_for_any_slice, 66, "E-MISSING", ()),
    (no_picture_in_the_training_split, 65, "E-LABEL", ("0 images",)),
    (no_case_is_listed, 66, "E-MISSING", ("dataset.json",)),
]


@pytest.mark.parametrize(("spoil", "status", "code", "words"), CASES, ids=[case[0].__name__ for case in CASES])
def test_training_refuses(
    spoil: Callable[[Path], None],
    status: int,
    code: str,
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    spoil(data)
    archive = data / "a.npz"
    options = ["--task", "segment", "--model", "monai_unet", "--epochs", "1"]
    found = run(["train", str(archive if archive.exists() else data), "--out", str(out), *options])
    captured = capsys.readouterr()
    assert found == status, captured.err
    (line,) = captured.err.splitlines()
    assert line.startswith(f"gossamer: {code}: ")
    for word in words:
        assert word in line
    assert "; " in line
    assert captured.out == ""
    assert not out.exists()
