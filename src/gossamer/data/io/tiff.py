"""TIFF: one page, any integer or floating type, photometric interpretation applied once."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io.limits import check_frame, check_inflated
from gossamer.data.io.pictures import make_picture
from gossamer.errors import ErrorCode, GossamerError, Note, install_hint
from gossamer.files import write_bytes

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_ORIENTATION = 274
_INVERTED, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6


def read_tiff(path: Path, data: bytes, *, labels: bool, channels: bool) -> Image:
    """Return the picture in a TIFF file; of a mask the stored values, whatever palette or polarity shows them.

    Raises:
        GossamerError: ``E-TRUNCATED``, ``E-SYNTAX`` or ``E-LIMIT``; ``E-CODEC`` for a compression whose decoder is not
            installed, ``E-UNSUPPORTED`` for several pages, and the errors of ``make_picture``.
    """
    array, orientation, notes = _decode_tiff(data, str(path), keep_stored=labels)
    has_alpha = array.ndim == 3 and array.shape[-1] in (2, 4)
    return make_picture(array, path, labels=labels, has_alpha=has_alpha, orientation=orientation, notes=notes)


def write_tiff(path: Path, indices: np.ndarray, image: Image) -> None:
    """Write label numbers."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, indices, photometric="minisblack", compression="deflate")
    write_bytes(path, buffer.getvalue())


def _decode_tiff(data: bytes, where: str, *, keep_stored: bool) -> tuple[np.ndarray, int, list[Note]]:
    """Return the pixels, ``(rows, columns)`` or ``(rows, columns, samples)``, the orientation 1..8, and notes."""
    import tifffile

    try:
        with _silence_tifffile(), tifffile.TiffFile(io.BytesIO(data)) as file:
            if len(file.pages) != 1:
                raise GossamerError(
                    ErrorCode.UNSUPPORTED,
                    where,
                    f"holds {len(file.pages)} pages, a single one is read",
                    "save each page in a separate file",
                )
            page: Any = file.pages.first
            _check_page(page, len(data), where)
            array = _samples_last(page, page.asarray())
            if array.shape[:2] != (page.imagelength, page.imagewidth) or array.ndim not in (2, 3):
                problem = f"decodes to {array.shape}, but its header states {page.imagelength}x{page.imagewidth} pixels"
                raise GossamerError(ErrorCode.SYNTAX, where, problem, "export the image again")
            array, notes = (array, []) if keep_stored else _apply_photometric(array, page, where)
            return array, int(page.tags.valueof(_ORIENTATION, 1)), notes
    except GossamerError:
        raise
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise GossamerError(
                ErrorCode.CODEC,
                where,
                f"compression {page.compression.name} needs a decoder",
                install_hint("tiff"),
            ) from error
        raise _unreadable_error(where, error) from error
    except Exception as error:  # tifffile raises seven types of exceptions for damaged headers
        raise _unreadable_error(where, error) from error


@contextmanager
def _silence_tifffile() -> Iterator[None]:
    """Keep the messages of tifffile about damaged headers off standard error; problems are raised."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _check_page(page: Any, size: int, where: str) -> None:
    shape = (page.imagelength, page.imagewidth)
    check_frame(where, shape)
    if page.imagedepth != 1:
        raise GossamerError(
            ErrorCode.UNSUPPORTED,
            where,
            f"holds a page of {page.imagedepth} slices",
            "save each slice in a separate file",
        )
    check_inflated(where, shape[0] * shape[1] * page.samplesperpixel * page.bitspersample // 8)
    needed = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if needed > size:
        raise GossamerError(
            ErrorCode.TRUNCATED,
            where,
            f"the pixel data end at byte {needed}, but the file holds {size}",
            "copy the file again",
        )
    if any(n == 0 for n in page.databytecounts):
        raise GossamerError(ErrorCode.SYNTAX, where, "holds a strip or tile of 0 bytes", "export the image again")


def _samples_last(page: Any, array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 0, -1) if page.planarconfig == 2 and array.ndim == 3 else array


def _apply_photometric(array: np.ndarray, page: Any, where: str) -> tuple[np.ndarray, list[Note]]:
    if page.photometric in (_BLACK_IS_ZERO, _RGB, _YCBCR):
        return array, []
    if page.photometric == _INVERTED and array.dtype.kind == "u":
        text = "stored with white as zero; inverted, so that larger is brighter"
        top = array.dtype.type(2**page.bitspersample - 1)
        return top - array.astype(array.dtype), [Note(ErrorCode.VALUE, where, text)]
    if page.photometric == _PALETTE and page.colormap is not None:
        return np.moveaxis(page.colormap[:, array], 0, -1), []
    raise GossamerError(
        ErrorCode.UNSUPPORTED,
        where,
        f"photometric {getattr(page.photometric, 'name', page.photometric)} of {array.dtype} is not read",
        "convert the image to grey or RGB",
    )


def _unreadable_error(where: str, error: Exception) -> GossamerError:
    return GossamerError(
        ErrorCode.SYNTAX, where, f"cannot be read as TIFF ({type(error).__name__}: {error})", "export it again"
    )
