"""The table of file formats, and the functions that read an image of any of them.

A picture is recognized by its first bytes, whatever its name is; a format without a signature by its suffix.

To add a format: write one file with a function ``read`` (see ``Reader``) that returns an ``Image``, and add one line to
``FORMATS``. Folders of images, Decathlon folders, ``predict`` and ``gossamer.read_image`` then take it. A volume whose
``Image`` has a ``geometry`` gets its masks as NIfTI, unless the format has a function ``write`` (see ``Writer``).
Archives of several arrays (npz, HDF5) are not images; layouts read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import jpeg, nifti, png, tiff
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_bytes


class Reader(Protocol):
    """Function that returns the image in a file.

    It is called with the path, the content of the file, and two flags: ``labels`` is True where the values are class or
    instance numbers, which have to be returned as stored; ``channels`` is True where a volume may have a fourth axis,
    which holds channels. It raises ``GossamerError`` for content that cannot be used.
    """

    def __call__(self, path: Path, data: bytes, *, labels: bool, channels: bool) -> Image:
        """Return the image in ``data``, the content of ``path``."""
        ...


Writer = Callable[[Path, np.ndarray, Image], None]
"""Function that writes label numbers to a path, in the geometry of the image that they belong to."""


@dataclass(frozen=True)
class Format:
    """A file format of images.

    Attributes:
        name: Name for messages.
        signatures: First bytes of its files; empty where a file is recognized by its suffix.
        suffixes: Suffixes of its files, in lower case.
        read: Function that returns the image in a file.
        write: Function that writes masks; None where masks are written in another format.
        written: Suffixes that ``write`` can write, the default first (default: ``suffixes``).
        is_volume: Whether a file holds a volume, rather than a picture.
        is_lossless: Whether a file keeps the numbers of a mask.
        partners: Suffix of a file, and of the other file that it is read with and not without.
    """

    name: str
    signatures: tuple[bytes, ...]
    suffixes: tuple[str, ...]
    read: Reader
    write: Writer | None = None
    written: tuple[str, ...] = ()
    is_volume: bool = False
    is_lossless: bool = True
    partners: tuple[tuple[str, str], ...] = ()

    @property
    def mask_suffixes(self) -> tuple[str, ...]:
        """Suffixes of the masks that it can write; empty where it writes none."""
        return (self.written or self.suffixes) if self.write is not None else ()


# Masks of images whose own format writes none are written in the first format that can.
FORMATS: tuple[Format, ...] = (
    Format("PNG", (png.SIGNATURE,), (".png",), png.read_png, png.write_png),
    Format("JPEG", (jpeg.SIGNATURE,), (".jpg", ".jpeg"), jpeg.read_jpeg, is_lossless=False),
    Format("TIFF", tiff.SIGNATURES, (".tif", ".tiff"), tiff.read_tiff, tiff.write_tiff),
    Format(
        "NIfTI",
        (),
        (".nii", ".nii.gz", ".hdr", ".img"),
        nifti.read_nifti,
        nifti.write_nifti,
        written=(".nii.gz", ".nii"),
        is_volume=True,
        partners=((".img", ".hdr"),),
    ),
)

PICTURES = tuple(format for format in FORMATS if not format.is_volume)
VOLUMES = tuple(format for format in FORMATS if format.is_volume)


def read_image(path: Path | str, *, channels: bool = False) -> Image:
    """Read a picture or a volume in any supported format.

    Layouts call this for every image of a data set; ``gossamer.read_image`` also checks the types of its arguments.

    Args:
        path: PNG, JPEG, TIFF or NIfTI file.
        channels: Whether a volume may have a fourth axis, which holds channels (default: False).

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT``, ``E-TRUNCATED``, ``E-INTEGRITY``, ``E-SYNTAX``, ``E-LIMIT``,
            ``E-UNSUPPORTED``, ``E-CODEC``, ``E-GEOMETRY`` or ``E-VALUE``.
    """
    return _read_file(Path(path), FORMATS, labels=False, channels=channels)


def read_picture(path: Path | str) -> Image:
    """Read a picture as ``read_image`` does; volumes are refused with ``E-FORMAT``."""
    return _read_file(Path(path), PICTURES, labels=False, channels=False)


def read_labels(path: Path | str) -> Image:
    """Read a file whose values are classes or instances, as stored: a label map, a binary mask, instance numbers.

    Palettes give their indices, one bit gives 0 and 1, and a picture of three equal channels gives one of them, with a
    note.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for colours or a format that changes values, ``E-LABEL`` for values that are
            not whole numbers, and the errors of ``read_image``.
    """
    return _read_file(Path(path), FORMATS, labels=True, channels=False)


def split_suffix(name: str) -> tuple[str, str]:
    """Return a file name without its suffix, and the suffix: a known one, such as ``.nii.gz``, or the last one."""
    known = [suffix for suffix in list_suffixes(FORMATS) if name.lower().endswith(suffix)]
    length = max(map(len, known), default=len(PurePath(name).suffix))
    return name[: len(name) - length], name[len(name) - length :]


def drop_suffix(name: str) -> str:
    """Return a file name, or a path, without the suffix of its format; other names stay as they are."""
    return split_suffix(name)[0] if has_suffix(name) else name


def list_suffixes(formats: Sequence[Format] = FORMATS) -> tuple[str, ...]:
    """Return the suffixes of formats."""
    return tuple(suffix for format in formats for suffix in format.suffixes)


def has_suffix(path: Path | str, formats: Sequence[Format] = FORMATS) -> bool:
    """Return whether the name of a file ends with a suffix of one of ``formats``."""
    return str(path).lower().endswith(list_suffixes(formats))


def is_volume_name(path: Path | str) -> bool:
    """Return whether the name of a file is that of a volume."""
    return has_suffix(path, VOLUMES)


def is_partner_file(path: Path) -> bool:
    """Return whether a file is read together with another one that is there, such as an ``.img`` with its ``.hdr``."""
    stem, suffix = split_suffix(path.name)
    others = [other for format in FORMATS for part, other in format.partners if part == suffix.lower()]
    return any(path.with_name(stem + other).is_file() for other in others)


def _read_file(path: Path, formats: Sequence[Format], *, labels: bool, channels: bool) -> Image:
    data = read_bytes(path)
    found = _find_format(path, data, formats)
    if labels and not found.is_lossless:
        problem = f"is a {found.name}, whose compression changes the values of a mask"
        raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, "export it as PNG from its source")
    image = found.read(path, data, labels=labels, channels=channels)
    if labels and image.array.dtype.kind not in "u" and image.array.size and image.array.min() < 0:
        problem = f"holds the value {image.array.min()}, a mask holds whole numbers from 0"
        raise GossamerError(ErrorCode.LABEL, path, problem, "save the number of the class of each pixel")
    if has_suffix(path, (found,)):
        return image
    note = Note(ErrorCode.FORMAT, str(path), f"is a {found.name} by content; read as one")
    return replace(image, notes=(note, *image.notes))


def _find_format(path: Path, data: bytes, formats: Sequence[Format]) -> Format:
    for format in formats:
        if not format.signatures and has_suffix(path, (format,)):
            return format
    for format in formats:
        if format.signatures and data.startswith(format.signatures):
            return format
    if not data:
        raise GossamerError(ErrorCode.TRUNCATED, path, "is empty", "copy the file again")
    names = [format.name for format in formats]
    problem = f"begins with {data[:8]!r}, which is not {', '.join(names[:-1])} or {names[-1]}"
    raise GossamerError(ErrorCode.FORMAT, path, problem, "convert it, or remove it")
