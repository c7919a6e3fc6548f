"""A format is one line in a table: everything that reads images takes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image as PillowImage

import gossamer
from gossamer.data.io import read_labels, read_picture
from gossamer.data.io.formats import has_suffix, is_partner_file, split_suffix
from gossamer.data.segmentation import SegmentationDataset
from gossamer.errors import ErrorCode, GossamerError

SHAPE = (3, 6, 8)


VOL = '''"""VOL: a made-up format of three sizes and uint8 voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gossamer.data.geometry import Geometry
from gossamer.data.image import Image

AFFINE = ((0.5, 0.0, 0.0, 0.0), (0.0, 0.75, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def read_vol(path: Path, data: bytes, *, labels: bool, channels: bool) -> Image:
    """Return the volume in a VOL file."""
    slices, rows, columns = data[4:7]
    geometry = Geometry(affine=AFFINE, stored_shape=(columns, rows, slices))
    array = np.frombuffer(data[7:], np.uint8).reshape(slices, rows, columns)
    return Image(array, ("slices", "rows", "columns"), str(path), geometry.spacing_mm, geometry=geometry)
'''
USE = """
import sys
from pathlib import Path
import numpy as np
import gossamer
from gossamer.data.io.masks import write_masks
from gossamer.inference.segmentation_files import list_suffixes

root = Path(sys.argv[1])
for layout in ("paired_folders", "decathlon"):
    dataset = gossamer.open_dataset(root / layout)
    assert (dataset.layout, dataset.volumes, dataset.faults, len(dataset.samples)) == (layout, True, (), 8)
    for sample in dataset.samples:
        case = dataset.read(sample)
        np.save(root / f"{layout}-{Path(sample.id).name[1]}.npy", [case.image.array, case.labels.indices()])
assert ".vol" in list_suffixes()
image = gossamer.read_image(root / "paired_folders/images/c0.vol")
write_masks(case.labels, image, root, "case.vol")
"""


def voxels(seed: int, most: int = 250) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, SHAPE).astype(np.uint8)


def write_vol(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"VOL1" + bytes(array.shape) + array.tobytes())
    return path


def write_nii(path: Path, array: np.ndarray, dtype: type = np.int16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0).astype(dtype), np.diag([0.5, 0.75, 2.0, 1.0])), path)
    return path


def test_public_function_reads_volumes(tmp_path: Path) -> None:
    image = gossamer.read_image(write_nii(tmp_path / "v.nii.gz", voxels(1)))
    np.testing.assert_array_equal(image.array, voxels(1))
    assert image.spacing_mm == (2.0, 0.75, 0.5)
    with pytest.raises(GossamerError) as caught:
        read_picture(tmp_path / "v.nii.gz")
    assert (caught.value.code, caught.value.where) == (ErrorCode.FORMAT, str(tmp_path / "v.nii.gz"))


def test_suffixes_are_split_at_known_ones() -> None:
    assert split_suffix("a.b.nii.gz") == ("a.b", ".nii.gz")
    assert split_suffix("A.PNG") == ("A", ".PNG")
    assert split_suffix("a.b.mha") == ("a.b", ".mha")
    assert split_suffix("plain") == ("plain", "")
    assert has_suffix("x/y.TIFF")
    assert not has_suffix("x.csv")


def test_data_file_of_a_pair_is_not_an_image_by_itself(tmp_path: Path) -> None:
    for name in ("a.hdr", "a.img", "b.img"):
        (tmp_path / name).touch()
    assert [name for name in ("a.hdr", "a.img", "b.img") if is_partner_file(tmp_path / name)] == ["a.img"]


def test_negative_labels_are_refused(tmp_path: Path) -> None:
    path = write_nii(tmp_path / "m.nii", -voxels(1, 3).astype(np.int16))
    with pytest.raises(GossamerError) as caught:
        read_labels(path)
    assert (caught.value.code, caught.value.where) == (ErrorCode.LABEL, str(path))


def test_volume_format_is_one_file_and_one_line(tmp_path: Path) -> None:
    package = tmp_path / "src" / "gossamer"
    shutil.copytree(Path(gossamer.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "data" / "io" / "vol.py").write_text(VOL)
    table = package / "data" / "io" / "formats.py"
    line = '    Format("VOL", (b"VOL1",), (".vol",), vol.read_vol, is_volume=True),\n'
    text = table.read_text().replace("import jpeg, nifti, png, tiff", "import jpeg, nifti, png, tiff, vol")
    table.write_text(text.replace('    Format("PNG"', f'{line}    Format("PNG"'))
    for number in range(8):
        for layout, image, mask in (("paired_folders", "images", "masks"), ("decathlon", "imagesTr", "labelsTr")):
            channel = "_0000" if layout == "decathlon" else ""
            write_vol(tmp_path / layout / image / f"c{number}{channel}.vol", voxels(number))
            write_vol(tmp_path / layout / mask / f"c{number}.vol", voxels(number, 3))
    names = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".vol"}
    (tmp_path / "decathlon" / "dataset.json").write_text(json.dumps(names))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    command = [sys.executable, "-c", USE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for number in range(8):
        for layout in ("paired_folders", "decathlon"):
            found = np.load(tmp_path / f"{layout}-{number}.npy")
            np.testing.assert_array_equal(found, [voxels(number), voxels(number, 3)])
    written: Any = nibabel.load(tmp_path / "case.nii.gz")
    np.testing.assert_allclose(written.affine, np.diag([0.5, 0.75, 2.0, 1.0]))
    np.testing.assert_allclose(written.header.get_zooms(), (0.5, 0.75, 2.0))


def test_paired_folders_may_hold_volumes(tmp_path: Path) -> None:
    for number in range(8):
        write_nii(tmp_path / "images" / f"c{number}.nii.gz", voxels(number))
        write_nii(tmp_path / "labels" / f"c{number}.nii.gz", voxels(number, 3))
    check_cases(tmp_path)
    write_nii(tmp_path / "labels" / "c5.nii.gz", voxels(5, 3)[:, :4])
    dataset = gossamer.open_dataset(tmp_path)
    with pytest.raises(GossamerError) as caught:
        dataset.read(next(sample for sample in dataset.samples if "c5" in sample.id))
    assert (caught.value.code, caught.value.where) == (ErrorCode.GEOMETRY, str(tmp_path / "labels" / "c5.nii.gz"))


def test_pictures_win_over_volumes_in_one_folder(tmp_path: Path) -> None:
    for number in range(8):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            PillowImage.fromarray(voxels(number, 2)[0]).save(tmp_path / folder / f"c{number}.png")
    write_nii(tmp_path / "images" / "other.nii.gz", voxels(1))
    dataset = gossamer.open_dataset(tmp_path)
    assert isinstance(dataset, SegmentationDataset)
    assert (len(dataset.samples), dataset.volumes) == (8, False)


def check_cases(folder: Path) -> None:
    dataset = gossamer.open_dataset(folder)
    assert isinstance(dataset, SegmentationDataset)
    assert (len(dataset.samples), dataset.volumes, dataset.faults) == (8, True, ())
    assert dataset.normalize == "case"
    for sample in dataset.samples:
        number = int(Path(sample.id).name[1])
        case = dataset.read(sample)
        np.testing.assert_array_equal(case.image.array, voxels(number))
        np.testing.assert_array_equal(case.labels.indices(), voxels(number, 3))
