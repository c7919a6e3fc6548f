"""Reading of published weights: safetensors, and pickles only for callers who trust them.

A file is read once; what is hashed is what is decoded. Files of others carry no digest of ours, so none is required;
the SHA-256 goes into the report instead.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from gossamer.checkpoint import HEADER_KEY
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes, sha256_hexdigest
from gossamer.pretrained.quarantine import read_pickle

MAX_FILE_BYTES = 4 << 30
COPY_AGAIN = "copy or download the file again"

_LEAST_BYTES = 10
"""Length of the smallest file: the length of a header, and an empty header."""
_WRAPPED = "module."
"""Prefix of every name in a network that was trained on several processes."""
_SIGNATURES = {
    b"\x89HDF": ("HDF5", "use the PyTorch weights of the same network, as safetensors"),
    b"\x1f\x8b": ("compressed", "unpack it first"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the weights", "download the file itself"),
    b"<": ("a page, not weights", "download the file itself"),
}


@dataclass(frozen=True)
class PublishedFile:
    """Content of a published file.

    Attributes:
        file: Name of the file, without folders.
        form: Format of the file.
        sha256: SHA-256 of the file, as hexadecimal digits.
        size_bytes: Size of the file.
        tensors: Tensors by the names that their authors gave them.
        notes: Changes that were made to names.
    """

    file: str
    form: Literal["safetensors", "pickle"]
    sha256: str
    size_bytes: int
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_published(path: Path, *, trust_pickle: bool = False) -> PublishedFile:
    """Return the tensors of a published file.

    Args:
        path: Path of the file.
        trust_pickle: Whether to read a pickled state dict too, in a separate process. The process is not a security
            boundary: trust only files whose authors you trust.

    Raises:
        GossamerError: ``E-MISSING``, ``E-LIMIT``, ``E-FORMAT``, ``E-TRUNCATED``; ``E-UNSUPPORTED`` for another format
            or for weights that Gossamer wrote; ``E-SECURITY`` for a pickle that is not trusted or that holds more than
            tensors.
    """
    if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
        problem = f"has {path.stat().st_size} bytes, at most {MAX_FILE_BYTES} are read"
        raise GossamerError(ErrorCode.LIMIT, path, problem, "split the file")
    data = read_bytes(path)
    if len(data) < _LEAST_BYTES:
        raise GossamerError(ErrorCode.TRUNCATED, path, f"has only {len(data)} bytes", COPY_AGAIN)
    notes: tuple[str, ...] = ()
    form: Literal["safetensors", "pickle"] = "safetensors"
    if data[8:9] == b"{":
        tensors = _read_safetensors(data, path)
        if _is_own_file(data):
            remedy = f"start from it with gossamer train --init {path.parent}"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, "contains weights that Gossamer itself wrote", remedy)
    elif data[:2] == b"PK" or data[:1] == b"\x80":
        _check_pickle(data, path, trust_pickle=trust_pickle)
        form, (tensors, notes) = "pickle", read_pickle(data, path)
    else:
        raise _not_weights(data, path)
    if not tensors:
        raise GossamerError(ErrorCode.FORMAT, path, "contains no tensors", COPY_AGAIN)
    if all(name.startswith(_WRAPPED) for name in tensors):
        tensors = {name.removeprefix(_WRAPPED): tensor for name, tensor in tensors.items()}
        notes = (*notes, f"the prefix {_WRAPPED} of every name was dropped")
    tensors = dict(sorted(tensors.items()))  # safetensors gives them in any order
    return PublishedFile(path.name, form, sha256_hexdigest(data), len(data), tensors, notes)


def _read_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    length = int.from_bytes(data[:8], "little")
    if 8 + length > len(data):
        problem = f"has {len(data)} bytes, its header alone claims {length}"
        raise GossamerError(ErrorCode.TRUNCATED, path, problem, COPY_AGAIN)
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        needed = 8 + length + _declared_bytes(data[8 : 8 + length])
        if needed > len(data):
            problem = f"has {len(data)} bytes, its header claims {needed}"
            raise GossamerError(ErrorCode.TRUNCATED, path, problem, COPY_AGAIN) from error
        raise GossamerError(ErrorCode.FORMAT, path, f"is not a safetensors file ({error})", COPY_AGAIN) from error


def _is_own_file(data: bytes) -> bool:
    """Return whether ``gossamer.checkpoint`` wrote a safetensors file, by its header, which could be read."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return HEADER_KEY in header.get("__metadata__", {})


def _declared_bytes(header: bytes) -> int:
    """Return the number of bytes of tensors that a safetensors header claims; 0 if it cannot be read."""
    try:
        entries = json.loads(header)
        return max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return 0


def _check_pickle(data: bytes, path: Path, *, trust_pickle: bool) -> None:
    """Raise unless the data look like a pickled state dict, and it is trusted. Nothing is unpickled here."""
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            problem = f"is a zip archive without its end ({error})"
            raise GossamerError(ErrorCode.TRUNCATED, path, problem, COPY_AGAIN) from error
        if any(name.endswith(".npy") for name in names):
            remedy = "save its arrays as safetensors, or use the PyTorch weights of the same network"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, "is an npz archive of arrays", remedy)
        if not any(name.endswith("data.pkl") for name in names):
            raise GossamerError(
                ErrorCode.FORMAT,
                path,
                "is a zip archive but not a PyTorch file",
                "unpack it and give the weights in it",
            )
        if any(name.endswith("constants.pkl") for name in names):
            problem = "is a TorchScript program, not a state dict"
            raise GossamerError(ErrorCode.SECURITY, path, problem, "use the weights alone, as safetensors")
    if not trust_pickle:
        problem = "is a pickle, which can run code when it is read"
        remedy = "use the same weights as safetensors, or set trust_pickle if you trust its authors"
        raise GossamerError(ErrorCode.SECURITY, path, problem, remedy)


def _not_weights(data: bytes, path: Path) -> GossamerError:
    """Return the error for a file that does not contain weights, which names its format if it is known."""
    for signature, (what, remedy) in _SIGNATURES.items():
        if data.startswith(signature):
            return GossamerError(ErrorCode.UNSUPPORTED, path, f"is {what}", remedy)
    return GossamerError(
        ErrorCode.FORMAT, path, "is neither a safetensors nor a PyTorch file", "give a file of weights"
    )
