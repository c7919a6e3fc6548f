"""NIfTI: a landmark lands at its millimetres, a label map goes back as it was, and damage gets one line."""

from __future__ import annotations

import gzip
import itertools
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gossamer.data.geometry import Geometry
from gossamer.data.io import read_image, read_labels
from gossamer.data.io.nifti import write_nifti
from gossamer.errors import GossamerError

SHAPE = (7, 5, 3)
SPACING, PLACE = (0.75, 1.5, 2.5), (-11.0, 23.0, 5.5)


def voxels(dtype: str = "i2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 100, shape).astype(dtype)


def raw(array: np.ndarray | None = None, affine: np.ndarray | None = None, kind: type = nibabel.Nifti1Image) -> bytes:
    """A good file, uncompressed: sform 1 and qform 0 unless nibabel is told otherwise."""
    affine = np.diag([*SPACING, 1.0]) if affine is None else affine
    return kind(voxels() if array is None else array, affine).to_bytes()


def patch(data: bytes, offset: int, fmt: str, *values: float) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<" + fmt, changed, offset, *values)
    return bytes(changed)


def written(folder: Path, data: bytes, name: str = "case.nii") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def refused(path: Path, *, labels: bool = False) -> str:
    with pytest.raises(GossamerError) as caught:
        read_labels(path) if labels else read_image(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "")


def turned(axes: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """The 4x4 of a grid whose stored axis n runs along world axis ``axes[n]``, in the sense of ``signs[n]``."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for stored, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, stored] = sign * SPACING[stored]
    affine[:3, 3] = PLACE
    return affine


TURNS = [(axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


@pytest.mark.parametrize(("axes", "signs"), TURNS)
@pytest.mark.parametrize("code", ["sform", "qform"])
def test_a_landmark_lands_at_its_millimetres_and_labels_go_back(
    axes: tuple[int, ...], signs: tuple[int, ...], code: str, tmp_path: Path
) -> None:
    affine, landmark = turned(axes, signs), (5, 1, 2)
    # Turned by 10 degrees too, since real heads lie askew.
    cosine, sine = np.cos(0.17), np.sin(0.17)
    affine = np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine
    stored = voxels("u1")
    stored[landmark] = 200
    image = nibabel.Nifti1Image(stored, affine)
    image.set_sform(affine, 2 if code == "sform" else 0)
    image.set_qform(affine, 3 if code == "qform" else 0)
    path = tmp_path / "case.nii.gz"
    nibabel.save(image, path)

    read = read_image(path)
    assert read.geometry is not None
    assert read.axes == ("slices", "rows", "columns")
    place = read.geometry.memory_affine_mm() @ (*np.argwhere(read.array == 200)[0], 1)
    np.testing.assert_allclose(place, affine @ (*landmark, 1), atol=1e-4)
    # Slices run towards superior, rows towards anterior, columns towards right.
    directions = read.geometry.memory_affine_mm()[:3, :3]
    assert directions[2, 0] > 0.9 * read.spacing_mm[0]  # type: ignore[index]
    assert directions[1, 1] > 0.9 * read.spacing_mm[1]  # type: ignore[index]
    assert directions[0, 2] > 0.9 * read.spacing_mm[2]  # type: ignore[index]
    np.testing.assert_allclose(read.spacing_mm, np.linalg.norm(directions, axis=0), rtol=1e-6)  # type: ignore[arg-type]

    labels = read_labels(path)
    assert labels.geometry == read.geometry
    assert labels.header == read.header
    np.testing.assert_array_equal(labels.array, read.array)
    write_nifti(tmp_path / "back.nii.gz", labels.array, read)
    before, after = nibabel.load(path), nibabel.load(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), stored)  # type: ignore[attr-defined]
    assert after.get_data_dtype() == np.uint8  # type: ignore[attr-defined]
    np.testing.assert_array_equal(after.affine, before.affine)  # type: ignore[attr-defined]
    for field in ("qform_code", "sform_code", "xyzt_units", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"):
        assert after.header[field] == before.header[field], field
    np.testing.assert_array_equal(after.header["pixdim"][:4], before.header["pixdim"][:4])


def test_memory_and_stored_order_are_inverse_with_channels_behind() -> None:
    array = np.random.default_rng(3).integers(0, 9, (*SHAPE, 4))
    for axes, signs in TURNS:
        geometry = Geometry(
            affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
            stored_shape=SHAPE,
            axes=axes,  # type: ignore[arg-type]
            flips=tuple(sign < 0 for sign in signs),  # type: ignore[arg-type]
        )
        assert geometry.to_memory(array).shape == (*geometry.memory_shape, 4)
        np.testing.assert_array_equal(geometry.to_stored(geometry.to_memory(array)), array)


def test_grids_are_compared_where_they_lie_not_how_they_are_stored(tmp_path: Path) -> None:
    stored, mirror = voxels(), np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = SHAPE[0] - 1
    affine = turned((0, 1, 2), (1, 1, 1))
    first = read_image(written(tmp_path, raw(stored, affine), "first.nii"))
    second = read_image(written(tmp_path, raw(stored[::-1], affine @ mirror), "second.nii"))
    assert first.geometry is not None
    assert second.geometry is not None
    np.testing.assert_array_equal(first.array, second.array)
    assert first.geometry != second.geometry
    assert first.geometry.difference(second.geometry) is None
    affine[0, 3] += 0.1
    near = read_image(written(tmp_path, raw(stored, affine), "near.nii")).geometry
    assert near is not None
    assert first.geometry.difference(near) == "the same voxel lies up to 0.1 mm apart"
    plain = raw(stored)
    known = read_image(written(tmp_path, plain, "known.nii")).geometry
    unknown = read_image(written(tmp_path, patch(plain, 252, "2h", 0, 0), "unknown.nii")).geometry
    assert known is not None
    assert unknown is not None
    np.testing.assert_array_equal(known.memory_affine_mm(), unknown.memory_affine_mm())
    assert "orientation" in str(known.difference(unknown))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_values_keep_their_type_whatever_their_byte_order(dtype: str, order: str, tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image = nibabel.Nifti1Image(voxels(dtype), np.diag([*SPACING, 1.0]), header)
    read = read_image(written(tmp_path, image.to_bytes()))
    assert read.array.dtype == np.dtype(dtype)
    assert read.array.dtype.isnative
    np.testing.assert_array_equal(read.array, voxels(dtype).transpose(2, 1, 0))
    assert read.spacing_mm == SPACING[::-1]


def test_a_scale_gives_float32_and_a_slope_of_zero_none(tmp_path: Path) -> None:
    scaled = read_image(written(tmp_path, patch(raw(), 112, "2f", 2.0, -1024.0)))
    assert scaled.array.dtype == np.float32
    np.testing.assert_array_equal(scaled.array, 2.0 * voxels().transpose(2, 1, 0) - 1024)
    unscaled = read_image(written(tmp_path, patch(raw(), 112, "2f", 0.0, 5.0)))
    np.testing.assert_array_equal(unscaled.array, voxels().transpose(2, 1, 0))
    assert unscaled.array.dtype == np.int16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "E-VALUE" in refused(written(tmp_path, patch(raw(voxels() + 1), 112, "2f", 3e38, 3e38)))


def test_the_sign_of_the_third_axis_is_that_of_pixdim_0(tmp_path: Path) -> None:
    good = patch(raw(), 252, "2h", 1, 0)
    for stored, flipped in ((1.0, False), (0.0, False), (-1.0, True), (3.0, False)):
        geometry = read_image(written(tmp_path, patch(good, 76, "f", stored))).geometry
        assert geometry is not None
        assert geometry.flips == (flipped, False, False)


def test_units_of_length_become_mm(tmp_path: Path) -> None:
    for code, mm in ((0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)):
        image = read_image(written(tmp_path, patch(raw(), 123, "B", code)))
        assert image.spacing_mm == pytest.approx([spacing * mm for spacing in SPACING[::-1]])


def test_a_pair_and_nifti_2_are_read_as_one_file_is(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(voxels(), np.diag([*SPACING, 1.0])), tmp_path / "pair.hdr")
    second = written(tmp_path, raw(kind=nibabel.Nifti2Image), "second.nii")
    for path in (tmp_path / "pair.hdr", tmp_path / "pair.img", second):
        np.testing.assert_array_equal(read_image(path).array, voxels().transpose(2, 1, 0))
    single = written(tmp_path, (tmp_path / "pair.hdr").read_bytes() + bytes(4) + voxels().tobytes(), "single.nii")
    assert "E-SYNTAX" in refused(single)
    (tmp_path / "pair.img").unlink()
    assert "E-MISSING" in refused(tmp_path / "pair.hdr")


def test_a_fourth_axis_is_meant_or_refused(tmp_path: Path) -> None:
    four = written(tmp_path, raw(voxels(shape=(*SHAPE, 4))), "four.nii")
    text = refused(four)
    assert text.startswith("E-GEOMETRY")
    assert "7x5x3x4" in text
    image = read_image(four, channels=True)
    assert image.axes == ("slices", "rows", "columns", "channels")
    np.testing.assert_array_equal(image.array, voxels(shape=(*SHAPE, 4)).transpose(2, 1, 0, 3))
    one = read_image(written(tmp_path, raw(voxels(shape=(*SHAPE, 1))), "one.nii"))
    assert one.array.shape == SHAPE[::-1]
    assert "is dropped" in str(one.notes[0])


def test_an_unknown_orientation_is_noted_and_nothing_is_turned(tmp_path: Path) -> None:
    path = written(tmp_path, patch(raw(affine=turned((1, 0, 2), (-1, 1, 1))), 252, "2h", 0, 0))
    image = read_image(path)
    assert image.geometry is not None
    assert not image.geometry.oriented
    assert "states no orientation" in str(image.notes[0])
    np.testing.assert_array_equal(image.array, voxels().transpose(2, 1, 0))
    assert image.spacing_mm == SPACING[::-1]
    write_nifti(tmp_path / "back.nii", image.array, image)
    assert read_image(tmp_path / "back.nii").geometry == image.geometry


def test_sform_wins_over_another_qform_with_a_note(tmp_path: Path) -> None:
    for turn, shift, noted in ((0.0, 0.4, 0), (0.0, 0.6, 1), (np.radians(0.5), 0.0, 0), (np.radians(1.2), 0.0, 1)):
        image = nibabel.Nifti1Image(voxels(), np.diag([*SPACING, 1.0]))
        other = np.diag([*SPACING, 1.0])
        other[:2, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ other[:2, :2]
        other[0, 3] = shift
        image.set_sform(np.diag([*SPACING, 1.0]), 1)
        image.set_qform(other, 1)
        read = read_image(written(tmp_path, image.to_bytes()))
        assert read.geometry is not None
        assert len(read.notes) == noted
        np.testing.assert_allclose(read.geometry.affine, np.diag([*SPACING, 1.0]))
        write_nifti(tmp_path / "back.nii", read.array, read)
        assert read_image(tmp_path / "back.nii").geometry == read.geometry


HEADER_FAULTS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("sizeof_hdr", lambda good: patch(good, 0, "i", 349), "E-SYNTAX"),
    ("magic", lambda good: patch(good, 344, "4s", b"n+9\0"), "E-SYNTAX"),  # type: ignore[arg-type]
    ("no header", lambda good: b"a picture of a hippocampus" * 40, "E-FORMAT"),
    ("short text", lambda good: b"hello", "E-TRUNCATED"),
    ("empty", lambda good: b"", "E-TRUNCATED"),
    ("nine axes", lambda good: patch(good, 40, "h", 9), "E-SYNTAX"),
    ("no axes", lambda good: patch(good, 40, "h", 0), "E-SYNTAX"),
    ("negative size", lambda good: patch(good, 42, "h", -7), "E-SYNTAX"),
    ("size 0", lambda good: patch(good, 46, "h", 0), "E-SYNTAX"),
    ("bitpix", lambda good: patch(good, 72, "h", 8), "E-SYNTAX"),
    ("datatype", lambda good: patch(good, 70, "h", 999), "E-SYNTAX"),
    ("offset in the header", lambda good: patch(good, 108, "f", 300.0), "E-SYNTAX"),
    ("offset beyond the file", lambda good: patch(good, 108, "f", 1e9), "E-SYNTAX"),
    ("offset beyond reason", lambda good: patch(good, 108, "f", 1e30), "E-LIMIT"),
    ("offset NaN", lambda good: patch(good, 108, "f", float("nan")), "E-SYNTAX"),
    ("offset between bytes", lambda good: patch(good, 108, "f", 352.5), "E-SYNTAX"),
    ("unit", lambda good: patch(good, 123, "B", 5), "E-SYNTAX"),
    ("code", lambda good: patch(good, 254, "h", -1), "E-SYNTAX"),
    ("huge", lambda good: patch(good, 40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1), "E-LIMIT"),
    ("slope NaN", lambda good: patch(good, 112, "f", float("nan")), "E-VALUE"),
    ("inter infinite", lambda good: patch(good, 116, "f", float("inf")), "E-VALUE"),
    ("affine NaN", lambda good: patch(good, 280, "f", float("nan")), "E-GEOMETRY"),
    ("affine 0", lambda good: patch(good, 280, "12f", *[0.0] * 12), "E-GEOMETRY"),
    ("affine in a plane", lambda good: patch(good, 280, "12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0), "E-GEOMETRY"),
    ("affine sheared", lambda good: patch(good, 284, "f", 0.3), "E-GEOMETRY"),
    ("spacing 0, no forms", lambda good: patch(patch(good, 252, "2h", 0, 0), 84, "f", 0.0), "E-GEOMETRY"),
    ("spacing NaN, no forms", lambda good: patch(patch(good, 252, "2h", 0, 0), 80, "f", float("nan")), "E-GEOMETRY"),
    ("spacing negative, qform", lambda good: patch(patch(good, 252, "2h", 1, 0), 80, "f", -1.0), "E-GEOMETRY"),
    ("quaternion too long", lambda good: patch(patch(good, 252, "2h", 1, 0), 256, "3f", 1, 1, 1), "E-GEOMETRY"),
    ("affine beyond reason", lambda good: patch(good, 280, "f", 1e38), "E-GEOMETRY"),
    ("offset beyond reason", lambda good: patch(patch(good, 252, "2h", 1, 1), 268, "f", 1e38), "E-GEOMETRY"),
    ("quaternion NaN beside sform", lambda good: patch(patch(good, 252, "h", 1), 256, "f", float("nan")), "E-GEOMETRY"),
    ("quaternion NaN", lambda good: patch(patch(good, 252, "2h", 1, 0), 268, "f", float("nan")), "E-GEOMETRY"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
@pytest.mark.parametrize(("change", "code"), [pytest.param(*rest, id=title) for title, *rest in HEADER_FAULTS])
def test_a_header_against_the_standard_is_refused(
    change: Callable[[bytes], bytes], code: str, name: str, tmp_path: Path
) -> None:
    assert read_image(written(tmp_path, raw(), name)).notes == ()
    assert refused(written(tmp_path, change(raw()), name)).startswith(code)


@pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
def test_a_huge_claim_is_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    import tracemalloc

    path = written(tmp_path, patch(raw(), 40, "8h", 3, 1000, 1000, 1000, 1, 1, 1, 1), name)
    tracemalloc.start()
    assert "E-LIMIT" in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["c8", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_colour_are_refused(dtype: object, tmp_path: Path) -> None:
    array = np.zeros(SHAPE, dtype=dtype)  # type: ignore[call-overload]
    assert "E-UNSUPPORTED" in refused(written(tmp_path, raw(array)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted(value: float, tmp_path: Path) -> None:
    array = voxels("f4")
    array[2:4, 1, 0] = value
    assert "2 of 105 voxels are NaN or infinite" in refused(written(tmp_path, raw(array)))


def test_every_cut_is_refused(tmp_path: Path) -> None:
    for name in ("case.nii", "case.nii.gz"):
        whole = written(tmp_path, raw(), name).read_bytes()
        for end in range(0, len(whole), 1 if name == "case.nii.gz" else 7):
            (tmp_path / name).write_bytes(whole[:end])
            assert "E-TRUNCATED" in refused(tmp_path / name), end


def test_every_flipped_bit_of_a_compressed_file_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, raw(), "case.nii.gz")
    whole, good = path.read_bytes(), read_image(path)
    random, passed, codes = np.random.default_rng(11), [], set()
    for bit in random.choice(8 * len(whole), 600, replace=False):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            read = read_image(path)
        except GossamerError as error:
            codes.add(error.code.label)
        else:
            np.testing.assert_array_equal(read.array, good.array)
            assert read.geometry == good.geometry
            passed.append(bit // 8)
    assert "E-INTEGRITY" in codes
    assert codes <= {"E-INTEGRITY", "E-TRUNCATED", "E-FORMAT", "E-LIMIT"}
    # No checksum covers flags, time and system in front; behind them, few flips spell the same bytes in another way.
    assert sum(place >= 10 for place in passed) < 6


def test_gzip_that_is_not_and_gzip_that_is_unnamed(tmp_path: Path) -> None:
    plain = tmp_path / "case.nii.gz"
    plain.write_bytes(raw())
    assert refused(plain).startswith("E-FORMAT: : is not gzip")
    named = tmp_path / "case.nii"
    named.write_bytes(gzip.compress(raw()))
    assert refused(named).startswith("E-FORMAT: : is gzip")
    assert "E-MISSING" in refused(tmp_path / "absent.nii")


def test_bytes_behind_the_voxels_are_noted(tmp_path: Path) -> None:
    for name in ("case.nii", "case.nii.gz"):
        image = read_image(written(tmp_path, raw() + bytes(200), name))
        assert "200 bytes behind the last voxel" in str(image.notes[0])
        np.testing.assert_array_equal(image.array, voxels().transpose(2, 1, 0))


def test_labels_are_stored_integers(tmp_path: Path) -> None:
    stored = np.zeros(SHAPE, np.int32)
    stored[0, 0, 0], stored[6, 4, 2] = 16_777_216, 16_777_217
    image = read_labels(written(tmp_path, raw(stored)))
    labels = image.array
    assert set(np.unique(labels).tolist()) == {0, 16_777_216, 16_777_217}
    write_nifti(tmp_path / "back.nii", labels, image)
    assert nibabel.load(tmp_path / "back.nii").get_data_dtype() == np.uint32  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read_labels(tmp_path / "back.nii").array, labels)


def test_labels_that_are_floating_must_be_whole(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, raw(voxels("f4")))).array
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, voxels().transpose(2, 1, 0))
    scaled = read_labels(written(tmp_path, patch(raw(), 112, "2f", 2.0, 1.0))).array
    np.testing.assert_array_equal(scaled, 2 * voxels().transpose(2, 1, 0) + 1)
    assert "E-LABEL" in refused(written(tmp_path, patch(raw(), 112, "2f", 0.5, 0.0)), labels=True)
    for value in (1.5, np.nan, np.inf):
        array = voxels("f4")
        array[3, 2, 1] = value
        text = refused(written(tmp_path, raw(array)), labels=True)
        assert "E-LABEL" in text
        assert "1 labels are not whole" in text


def test_the_same_labels_give_the_same_bytes_and_little_is_lost_to_rounding(tmp_path: Path) -> None:
    affine = turned((2, 0, 1), (1, -1, 1))
    image = read_labels(written(tmp_path, raw(voxels("u1"), affine)))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, image.array, image)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    fine = np.diag([0.1, 0.2, 0.3, 1.0])
    fine[:3, 3] = 1e6 + 0.1, -7e5 - 0.3, 0.7
    path = written(tmp_path, raw(voxels("u1"), fine, kind=nibabel.Nifti2Image), "fine.nii")
    image = read_labels(path)
    write_nifti(tmp_path / "back.nii", image.array, image)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "back.nii").affine, fine)  # type: ignore[attr-defined]


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    image = read_labels(written(tmp_path, raw()))
    labels = image.array
    for wrong, code, name in (
        (labels.astype(np.float32), "E-VALUE", "x.nii"),
        (labels - 200, "E-VALUE", "x.nii"),
        (labels[1:], "E-GEOMETRY", "x.nii"),
        (labels, "E-UNSUPPORTED", "x.mha"),
        (labels, "E-OUTPUT", "absent/x.nii"),
    ):
        with pytest.raises(GossamerError, match=code):
            write_nifti(tmp_path / name, wrong, image)
    assert [path.name for path in tmp_path.iterdir()] == ["case.nii"]
