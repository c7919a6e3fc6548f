"""PNG: every depth and colour type, with the stored values kept.

Pillow silently reads 16-bit colour as 8-bit and stretches 2- and 4-bit grey to 0..255, and like most readers it does
not check every checksum. Here the chunks are read and the data inflated first, and the header determines the array.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from gossamer.data.image import Image
from gossamer.data.io.limits import check_frame
from gossamer.data.io.pictures import make_picture
from gossamer.data.io.pillow import open_picture
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import write_bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
# Black, then colours that the colour-blind can tell apart (Okabe and Ito), repeated.
_COLOURS = ((86, 180, 233), (230, 159, 0), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178))
_MASK_PALETTE = [0, 0, 0, *(part for number in range(255) for part in _COLOURS[number % len(_COLOURS)])]
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}


@dataclass(frozen=True)
class PngHeader:
    """The IHDR chunk.

    Attributes:
        rows: Number of rows.
        columns: Number of columns.
        depth: Bits per sample.
        colour: Colour type of the standard.
    """

    rows: int
    columns: int
    depth: int
    colour: int

    @property
    def has_alpha(self) -> bool:
        """Whether the last sample of a pixel is opacity."""
        return self.colour in (_GREY_ALPHA, _RGBA)


def read_png(path: Path, data: bytes, *, labels: bool, channels: bool) -> Image:
    """Return the picture in a PNG file.

    A palette is expanded to its colours; of a mask, its indices are kept. Values are those stored: a 4-bit image holds
    0..15.

    Raises:
        GossamerError: ``E-TRUNCATED``, ``E-INTEGRITY``, ``E-SYNTAX`` or ``E-LIMIT``, and the errors of
            ``make_picture``.
    """
    array, header = _decode_png(data, str(path), keep_indices=labels)
    return make_picture(array, path, labels=labels, has_alpha=header.has_alpha)


def write_png(path: Path, indices: np.ndarray, image: Image) -> None:
    """Write label numbers with a palette that makes them visible: the values stay, viewers show colours."""
    picture = PillowImage.fromarray(indices).convert("P")
    picture.putpalette(bytes(_MASK_PALETTE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())


def _decode_png(data: bytes, where: str, *, keep_indices: bool) -> tuple[np.ndarray, PngHeader]:
    """Return the pixels, ``(rows, columns)`` or ``(rows, columns, samples)``, and the header."""
    header = _check_chunks(data, where)
    if header.depth == 16 and header.colour != _GREY:
        return _decode_deep_colour(data, header), header
    with open_picture(data, "PNG", where) as picture:
        if header.colour == _PALETTE and not keep_indices:
            transparent = "transparency" in picture.info
            array = np.asarray(picture.convert("RGBA" if transparent else "RGB"))[..., :3]
        else:
            array = np.asarray(picture)
    if header.colour == _GREY and header.depth < 8:
        # Pillow stretches 2 and 4 bits to 0..255 and gives booleans for 1 bit.
        array = array.astype(np.uint8) // (1 if array.dtype == bool else 255 // (2**header.depth - 1))
    return array.astype(np.uint16) if header.depth == 16 else array, header


def _decode_deep_colour(data: bytes, header: PngHeader) -> np.ndarray:
    import png

    samples = _SAMPLES[header.colour]
    rows = png.Reader(bytes=data).read()[2]
    return np.stack([np.asarray(row, dtype=np.uint16) for row in rows]).reshape(header.rows, header.columns, samples)


def _check_chunks(data: bytes, where: str) -> PngHeader:
    """Check the lengths and checksums of all chunks, the header, and the inflated size; return the header."""
    header: PngHeader | None = None
    inflate, inflated, position = zlib.decompressobj(), 0, len(SIGNATURE)
    while True:
        if position + 12 > len(data):
            raise _truncation_error(where, f"the file ends at byte {len(data)}, before its end marker")
        (length,), kind = struct.unpack_from(">I", data, position), data[position + 4 : position + 8]
        body, end = data[position + 8 : position + 8 + length], position + 12 + length
        if end > len(data):
            raise _truncation_error(where, f"chunk {kind!r} needs {end} bytes, the file holds {len(data)}")
        if zlib.crc32(kind + body) != struct.unpack_from(">I", data, end - 4)[0]:
            raise GossamerError(
                ErrorCode.INTEGRITY, where, f"the checksum of chunk {kind!r} is wrong", "copy the file again"
            )
        if kind == b"IHDR":
            header = _read_header(body, where)
        elif header is None:
            raise GossamerError(ErrorCode.SYNTAX, where, "the first chunk is not the header", "export it again")
        elif kind == b"IDAT" and body:
            try:
                inflated += len(inflate.decompress(body, _max_inflated_bytes(header) - inflated + 1))
            except zlib.error as error:
                raise GossamerError(
                    ErrorCode.INTEGRITY, where, f"pixel data: {error}", "copy the file again"
                ) from error
            if inflated > _max_inflated_bytes(header):
                raise GossamerError(
                    ErrorCode.LIMIT, where, "holds more pixel data than the header states", "export it again"
                )
        elif kind == b"IEND":
            break
        position = end
    if not inflate.eof:
        raise _truncation_error(where, f"the pixel data end after {inflated} bytes")
    return header


def _read_header(body: bytes, where: str) -> PngHeader:
    if len(body) != 13:
        raise GossamerError(ErrorCode.SYNTAX, where, f"has a header of {len(body)} bytes, not of 13", "export it again")
    columns, rows, depth, colour = struct.unpack_from(">IIBB", body)
    check_frame(where, (rows, columns))
    if colour not in _SAMPLES or depth not in (1, 2, 4, 8, 16):
        raise GossamerError(
            ErrorCode.SYNTAX, where, f"colour type {colour} with {depth} bits is not defined", "export it again"
        )
    return PngHeader(rows, columns, depth, colour)


def _max_inflated_bytes(header: PngHeader) -> int:
    """Return an upper bound of the inflated size: interlacing adds at most one filter byte per pixel."""
    return header.rows * (2 + (header.columns * header.depth * _SAMPLES[header.colour] + 7) // 8) + 8 * header.rows + 64


def _truncation_error(where: str, problem: str) -> GossamerError:
    return GossamerError(ErrorCode.TRUNCATED, where, problem, "copy the file again")
