"""Mask pictures keep the values that are stored, and colours are refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from gossamer.data.io import read_image, read_labels
from gossamer.errors import ErrorCode, GossamerError

INDICES = np.random.default_rng(0).integers(0, 4, (7, 11), dtype=np.uint8)


def write_palette(path: Path, bits: int, indices: np.ndarray = INDICES) -> Path:
    """Write a palette PNG by hand: its colours have nothing in common with its indices."""
    rows, columns = indices.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    palette = np.random.default_rng(1).integers(40, 255, (2**bits, 3), dtype=np.uint8)
    digits = (indices[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    lines = b"".join(b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in digits)
    header = struct.pack(">IIBBBBB", columns, rows, bits, 3, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"PLTE", palette.tobytes()) + chunk(b"IDAT", zlib.compress(lines))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    return path


def refused(path: Path, code: ErrorCode) -> str:
    with pytest.raises(GossamerError) as caught:
        read_labels(path)
    assert caught.value.code is code, caught.value
    return str(caught.value)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_palette_gives_indices_here_and_colours_elsewhere(tmp_path: Path, bits: int) -> None:
    path = write_palette(tmp_path / "a.png", bits)
    mask = read_labels(path)
    np.testing.assert_array_equal(mask.array, INDICES)
    assert mask.axes == ("rows", "columns")
    assert read_image(path).array.shape == (7, 11, 3)
    assert read_image(path).array.min() >= 40


def test_one_bit_gives_0_and_1(tmp_path: Path) -> None:
    PillowImage.fromarray(INDICES > 1).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "grey.png").array, INDICES > 1)
    assert read_labels(tmp_path / "grey.png").array.dtype == np.uint8
    tifffile.imwrite(tmp_path / "bit.tif", INDICES > 1, photometric="minisblack")
    np.testing.assert_array_equal(read_labels(tmp_path / "bit.tif").array, INDICES > 1)
    write_palette(tmp_path / "palette.png", 1, np.minimum(INDICES, 1))
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png").array, np.minimum(INDICES, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_stay(tmp_path: Path, dtype: type) -> None:
    array = (INDICES.astype(dtype) * (np.iinfo(dtype).max // 3)).astype(dtype)
    PillowImage.fromarray(array).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    for name in ("a.png", "a.tif"):
        mask = read_labels(tmp_path / name)
        assert mask.array.dtype == dtype
        np.testing.assert_array_equal(mask.array, array)


def test_tiff_is_as_stored_whatever_it_is_shown_as(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", INDICES, photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array, INDICES)
    colours = np.random.default_rng(1).integers(0, 2**16, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", INDICES, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.tif").array, INDICES)
    tifffile.imwrite(tmp_path / "c.tif", INDICES.astype(np.float32), photometric="minisblack")
    np.testing.assert_array_equal(read_labels(tmp_path / "c.tif").array, INDICES)


def test_values_that_are_no_numbers_of_classes(tmp_path: Path) -> None:
    array = INDICES.astype(np.float32)
    for value in (0.5, -1.0, np.nan, np.inf, 1e12):
        array[3, 5] = value
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
        assert "whole numbers from 0" in refused(tmp_path / "a.tif", ErrorCode.LABEL)


def test_colours_and_jpeg_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((7, 11, 3), np.uint8)
    colours[2, 3] = (255, 0, 10)
    PillowImage.fromarray(colours).save(tmp_path / "a.png")
    assert "(255, 0, 10)" in refused(tmp_path / "a.png", ErrorCode.UNSUPPORTED)
    PillowImage.fromarray(INDICES).save(tmp_path / "a.jpg")
    assert "JPEG" in refused(tmp_path / "a.jpg", ErrorCode.UNSUPPORTED)


def test_equal_channels_are_one(tmp_path: Path) -> None:
    PillowImage.fromarray(np.repeat(INDICES[..., None], 3, axis=-1)).save(tmp_path / "a.png")
    mask = read_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(mask.array, INDICES)
    assert "equal channels" in mask.notes[0].text
