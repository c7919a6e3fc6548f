"""HDF5: named arrays of plain numbers at the root of a file."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data.io.limits import check_inflated
from gossamer.errors import ErrorCode, GossamerError, install_hint
from gossamer.files import read_bytes

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_hdf5(path: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the arrays of ``path`` whose names are in ``wanted``; others are not read.

    Raises:
        GossamerError: ``E-CODEC`` without h5py, ``E-FORMAT``, ``E-TRUNCATED``, ``E-SYNTAX``, ``E-LIMIT``, or
            ``E-SECURITY`` for objects and for data in other files.
    """
    try:
        import h5py
    except ImportError as error:
        raise GossamerError(
            ErrorCode.CODEC, path, "HDF5 needs h5py, which is not installed", install_hint("hdf5")
        ) from error
    data = read_bytes(path)
    if not data.startswith(SIGNATURE):
        raise GossamerError(
            ErrorCode.FORMAT, path, f"begins with {data[:8]!r}, which is not HDF5", "convert it, or remove it"
        )
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return {key: _read_member(h5py, file, key, f"{path}:{key}") for key in wanted if key in set(file)}
    except GossamerError:
        raise
    except MemoryError as error:
        raise GossamerError(
            ErrorCode.LIMIT, path, "states a size that does not fit into memory", "save it again"
        ) from error
    except Exception as error:  # damaged files raise OSError, RuntimeError, KeyError and ValueError
        cut = "truncated" in str(error)
        code, remedy = (ErrorCode.TRUNCATED, "copy the file again") if cut else (ErrorCode.SYNTAX, "save it again")
        problem = f"cannot be read as HDF5 ({type(error).__name__}: {error})"
        raise GossamerError(code, path, problem, remedy) from error


def _read_member(h5py: Any, file: Any, key: str, where: str) -> np.ndarray:
    link = file.get(key, getlink=True)
    member = file[key] if isinstance(link, h5py.HardLink) else None
    if member is None or (isinstance(member, h5py.Dataset) and (member.external or member.is_virtual)):
        raise GossamerError(ErrorCode.SECURITY, where, "refers to another file or place", "save it as a plain array")
    if not isinstance(member, h5py.Dataset) or member.shape is None:
        raise GossamerError(ErrorCode.SYNTAX, where, "is not an array", "save it as a plain array")
    if member.dtype.kind not in "uifb":
        problem = f"holds {member.dtype} values, not numbers"
        raise GossamerError(ErrorCode.SECURITY, where, problem, "save it as a plain array")
    check_inflated(where, math.prod(member.shape) * member.dtype.itemsize)
    return np.asarray(member[()])
