"""Every picture keeps its stored values, and every damaged one is refused with its code."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import png
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageFile

from gossamer.data import Image, read_image
from gossamer.errors import ErrorCode, GossamerError

ROWS, COLUMNS = 7, 11


def gradient(dtype: type, channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(5)
    shape = (ROWS, COLUMNS) if channels == 1 else (ROWS, COLUMNS, channels)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def png_bytes(array: np.ndarray, mode: str) -> bytes:
    buffer = io.BytesIO()
    png.from_array(array.reshape(array.shape[0], -1), mode).write(buffer)
    return buffer.getvalue()


def refused(path: Path, code: ErrorCode) -> str:
    with pytest.raises(GossamerError) as caught:
        read_image(path)
    assert caught.value.code is code
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("mode", "dtype", "channels"),
    [("L", np.uint8, 1), ("L;16", np.uint16, 1), ("RGB", np.uint8, 3), ("RGB;16", np.uint16, 3)],
)
def test_png_keeps_its_values(tmp_path: Path, mode: str, dtype: type, channels: int) -> None:
    array = gradient(dtype, channels)
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(array, mode))
    image = read_image(path)
    assert image.array.dtype == dtype
    np.testing.assert_array_equal(image.array, array)
    assert image.axes == (("rows", "columns") if channels == 1 else ("rows", "columns", "channels"))
    assert image.notes == ()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_shallow_grey_png_is_not_stretched(tmp_path: Path, bits: int) -> None:
    array = np.random.default_rng(1).integers(0, 2**bits, (ROWS, COLUMNS), dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(array, f"L;{bits}"))
    np.testing.assert_array_equal(read_image(path).array, array)


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    indices = np.random.default_rng(2).integers(0, 4, (ROWS, COLUMNS), dtype=np.uint8)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 200, 0], [9, 8, 7]], dtype=np.uint8)
    picture = PillowImage.fromarray(indices, mode="P")
    picture.putpalette(colours.flatten().tolist())
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, colours[indices])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opacity_is_dropped_and_noted_only_where_it_hides_something(tmp_path: Path, dtype: type) -> None:
    array = gradient(dtype, 4)
    mode = "RGBA" if dtype == np.uint8 else "RGBA;16"
    (tmp_path / "a.png").write_bytes(png_bytes(array, mode))
    seen = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(seen.array, array[..., :3])
    assert "opacity" in seen.notes[0].text
    array[..., 3] = np.iinfo(dtype).max
    (tmp_path / "b.png").write_bytes(png_bytes(array, mode))
    assert read_image(tmp_path / "b.png").notes == ()


def test_jpeg_is_read_and_its_orientation_applied_once(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(np.kron(np.array([[0, 255], [128, 64]], np.uint8), np.ones((8, 16), np.uint8)))
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "plain.jpg", quality=100)
    picture.save(tmp_path / "turned.jpg", quality=100, exif=exif)
    plain, turned = read_image(tmp_path / "plain.jpg"), read_image(tmp_path / "turned.jpg")
    np.testing.assert_array_equal(turned.array, np.rot90(plain.array, -1))
    assert "orientation 6" in turned.notes[0].text
    assert plain.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_agree_with_pillow(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    array = gradient(np.uint8)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    PillowImage.fromarray(array).save(tmp_path / "a.jpg", quality=95, exif=exif)
    with PillowImage.open(tmp_path / "a.jpg") as picture:
        wanted = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").array, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_keeps_its_values(tmp_path: Path, dtype: type, compression: str | None) -> None:
    generator = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        array = generator.normal(size=(48, 80)).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        array = generator.integers(limits.min, limits.max, (48, 80), dtype=dtype, endpoint=True)
    tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, photometric="minisblack")
    image = read_image(tmp_path / "a.tif")
    assert image.array.dtype == dtype
    np.testing.assert_array_equal(image.array, array)


def test_tiled_planar_and_colour_tiff(tmp_path: Path) -> None:
    array = gradient(np.uint16, 3).repeat(5, axis=0).repeat(5, axis=1)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", tile=(16, 16))
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, array)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif").array, array)


def test_inverted_tiff_is_inverted_once(tmp_path: Path) -> None:
    array = gradient(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array, 255 - array)
    assert "inverted" in image.notes[0].text


def test_pages_of_a_tiff_are_not_guessed_at(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 20, 20), np.uint8), photometric="minisblack")
    assert "3 pages" in refused(tmp_path / "a.tif", ErrorCode.UNSUPPORTED)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    PillowImage.fromarray(gradient(np.uint8)).save(tmp_path / "a.png", format="JPEG")
    assert "JPEG" in read_image(tmp_path / "a.png").notes[0].text
    (tmp_path / "b.png").write_text("patient has no fever")
    refused(tmp_path / "b.png", ErrorCode.FORMAT)
    (tmp_path / "c.png").touch()
    refused(tmp_path / "c.png", ErrorCode.TRUNCATED)
    refused(tmp_path / "d.png", ErrorCode.MISSING)
    refused(tmp_path, ErrorCode.FORMAT)


def test_every_cut_of_a_png_is_refused(tmp_path: Path) -> None:
    whole = png_bytes(gradient(np.uint8), "L")
    path = tmp_path / "a.png"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(GossamerError):
            read_image(path)


def test_half_a_jpeg_and_half_a_tiff_are_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    PillowImage.fromarray(array).save(tmp_path / "a.jpg")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    for name in ("a.jpg", "a.tif"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(GossamerError) as caught:
            read_image(tmp_path / name)
        assert caught.value.code in (ErrorCode.TRUNCATED, ErrorCode.SYNTAX)


def test_every_flipped_bit_of_a_png_is_found(tmp_path: Path) -> None:
    whole = png_bytes(gradient(np.uint8), "L")
    path = tmp_path / "a.png"
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(GossamerError):
            read_image(path)


def test_damage_behind_a_repaired_checksum_is_found(tmp_path: Path) -> None:
    whole = bytearray(png_bytes(gradient(np.uint8), "L"))
    at = whole.index(b"IDAT")
    (length,) = struct.unpack(">I", whole[at - 4 : at])
    whole[at + 4 + length - 1] ^= 1  # the last byte of zlib's own checksum
    whole[at + 4 + length : at + 8 + length] = struct.pack(">I", zlib.crc32(whole[at : at + 4 + length]))
    (tmp_path / "a.png").write_bytes(whole)
    refused(tmp_path / "a.png", ErrorCode.INTEGRITY)


def bomb(rows: int, columns: int) -> bytes:
    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(rows * ((columns + 7) // 8 + 1)), 9)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(30_000, 30_000))
    assert "30000x30000" in refused(tmp_path / "a.png", ErrorCode.LIMIT)
    small = bytearray(bomb(100, 4000))
    small[16:24] = struct.pack(">II", 8, 8)  # the header says 8x8, the data inflate to far more
    small[29:33] = struct.pack(">I", zlib.crc32(small[12:29]))
    (tmp_path / "b.png").write_bytes(small)
    refused(tmp_path / "b.png", ErrorCode.LIMIT)


def test_a_tiff_that_claims_a_terabyte_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", gradient(np.uint8), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages.first.tags["ImageWidth"].overwrite(1_000_000)
        file.pages.first.tags["ImageLength"].overwrite(1_000_000)
    refused(tmp_path / "a.tif", ErrorCode.LIMIT)


def test_a_process_that_tolerates_cut_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PillowImage.fromarray(gradient(np.uint8)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(GossamerError) as caught:
        read_image(tmp_path / "a.jpg")
    assert caught.value.code is ErrorCode.CONFIG


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_headers_raise_our_exception_or_give_an_image(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    kind = data.draw(st.sampled_from(["png", "jpg", "tif"]))
    array = gradient(np.uint8)
    if kind == "tif":
        tifffile.imwrite(buffer, array, photometric="minisblack")
    else:
        PillowImage.fromarray(array).save(buffer, format={"png": "PNG", "jpg": "JPEG"}[kind])
    mutated = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        mutated[data.draw(st.integers(4, min(699, len(mutated) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"mutated.{kind}"
    path.write_bytes(mutated)
    found: Image | GossamerError
    try:
        found = read_image(path)
    except GossamerError as error:
        found = error
    assert found.where == str(path) if isinstance(found, GossamerError) else found.array.size > 0
