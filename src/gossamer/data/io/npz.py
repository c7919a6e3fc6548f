"""npz archives: named arrays of plain numbers, each member checked before it is inflated."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Container
from pathlib import Path

import numpy as np

from gossamer.data.io.limits import check_inflated
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(path: Path, wanted: Container[str]) -> dict[str, np.ndarray]:
    """Return the arrays of ``path`` whose names are in ``wanted``; other members are not read.

    Raises:
        GossamerError: ``E-FORMAT``, ``E-INTEGRITY``, ``E-LIMIT``, ``E-SYNTAX``, or ``E-SECURITY`` for an object array.
    """
    data = read_bytes(path)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise GossamerError(
            ErrorCode.FORMAT, path, f"is not an npz archive ({error})", "copy the file again"
        ) from error
    arrays = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key in wanted:
            check_inflated(f"{path}:{key}", member.file_size)
            arrays[key] = _read_member(archive, member, f"{path}:{key}")
    return arrays


def member_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the stated shape of each array of ``path``, from headers alone; empty if it cannot be read."""
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".npy"):
                    with archive.open(member) as file:
                        version = np.lib.format.read_magic(file)
                        shapes[member.filename.removesuffix(".npy")] = _HEADERS[version](file)[0]
    except (zipfile.BadZipFile, ValueError, OSError, LookupError, NotImplementedError, RuntimeError):
        return {}  # opening the archive reports the problem
    return shapes


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> np.ndarray:
    try:
        return np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
    except zipfile.BadZipFile as error:
        raise GossamerError(ErrorCode.INTEGRITY, where, f"damaged ({error})", "copy the file again") from error
    except ValueError as error:
        if "allow_pickle" in str(error):
            problem = "holds Python objects, which can run code when they are read"
            raise GossamerError(ErrorCode.SECURITY, where, problem, "save it as a plain array") from error
        raise GossamerError(ErrorCode.SYNTAX, where, f"is not an array ({error})", "save it again") from error
    except MemoryError as error:
        raise GossamerError(
            ErrorCode.LIMIT, where, "states a size that does not fit into memory", "save it again"
        ) from error
