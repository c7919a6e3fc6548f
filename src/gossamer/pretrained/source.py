"""Published files to tensors: safetensors, and pickles only for whoever asks for them.

A file is read once; what is hashed is what is decoded. Files of others carry no digest of ours, so none is asked for;
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
COPY = "copy or download the file again"

_LEAST_BYTES = 10
"""Of a header's length and an empty header."""
_WRAPPED = "module."
"""In front of every name, where a network was saved that was trained on several processes."""
_SIGNATURES = {
    b"\x89HDF": ("HDF5", "use the PyTorch weights of the same network, as safetensors"),
    b"\x1f\x8b": ("compressed", "unpack it first"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the weights", "download the file itself"),
    b"<": ("a page, not weights", "download the file itself"),
}


@dataclass(frozen=True)
class Source:
    """What a published file holds.

    Attributes:
        file: its name.
        form: how it was stored.
        sha256: of its bytes.
        size_bytes: of the whole file.
        tensors: by the names of their authors.
        notes: what was done to names.
    """

    file: str
    form: Literal["safetensors", "pickle"]
    sha256: str
    size_bytes: int
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_source(path: Path, *, trust_pickle: bool = False) -> Source:
    """Return the tensors of a published file.

    Args:
        path: of the file.
        trust_pickle: read a pickled state dict too, in a process of its own. That is no boundary: say so only of files
            whose makers you trust.

    Raises:
        GossamerError: ``E-MISSING``, ``E-LIMIT``, ``E-FORMAT``, ``E-TRUNCATED``, ``E-UNSUPPORTED`` for another form or
            for weights of our own, ``E-SECURITY`` for a pickle that nobody trusts or that holds more than tensors.
    """
    if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
        problem = f"{path.stat().st_size} bytes, at most {MAX_FILE_BYTES} are read"
        raise GossamerError(ErrorCode.LIMIT, path, problem, "split the file")
    data = read_bytes(path)
    if len(data) < _LEAST_BYTES:
        raise GossamerError(ErrorCode.TRUNCATED, path, f"holds only {len(data)} bytes", COPY)
    notes: tuple[str, ...] = ()
    form: Literal["safetensors", "pickle"] = "safetensors"
    if data[8:9] == b"{":
        tensors = _read_safetensors(data, path)
        if _is_ours(data):
            remedy = f"start from it with gossamer train --init {path.parent}"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, "holds weights that Gossamer itself wrote", remedy)
    elif data[:2] == b"PK" or data[:1] == b"\x80":
        _check_pickle(data, path, trust_pickle=trust_pickle)
        form, (tensors, notes) = "pickle", read_pickle(data, path)
    else:
        raise _not_weights(data, path)
    if not tensors:
        raise GossamerError(ErrorCode.FORMAT, path, "holds no tensor", COPY)
    if all(name.startswith(_WRAPPED) for name in tensors):
        tensors = {name.removeprefix(_WRAPPED): tensor for name, tensor in tensors.items()}
        notes = (*notes, f"{_WRAPPED} in front of every name was dropped")
    tensors = dict(sorted(tensors.items()))  # safetensors gives them in any order
    return Source(path.name, form, sha256_hexdigest(data), len(data), tensors, notes)


def _read_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    length = int.from_bytes(data[:8], "little")
    if 8 + length > len(data):
        problem = f"{len(data)} bytes, its header alone claims {length}"
        raise GossamerError(ErrorCode.TRUNCATED, path, problem, COPY)
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        needed = 8 + length + _declared_bytes(data[8 : 8 + length])
        if needed > len(data):
            problem = f"{len(data)} bytes, its header claims {needed}"
            raise GossamerError(ErrorCode.TRUNCATED, path, problem, COPY) from error
        raise GossamerError(ErrorCode.FORMAT, path, f"is not a safetensors file ({error})", COPY) from error


def _is_ours(data: bytes) -> bool:
    """Return whether the header of a safetensors file that could be read says that ``gossamer.checkpoint`` wrote it."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return HEADER_KEY in header.get("__metadata__", {})


def _declared_bytes(header: bytes) -> int:
    """Return how many bytes of tensors a safetensors header claims; 0 where it cannot be read."""
    try:
        entries = json.loads(header)
        return max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return 0


def _check_pickle(data: bytes, path: Path, *, trust_pickle: bool) -> None:
    """Raise unless the data look like a pickled state dict that someone trusts; nothing is unpickled here."""
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise GossamerError(ErrorCode.TRUNCATED, path, f"a zip archive without its end ({error})", COPY) from error
        if any(name.endswith(".npy") for name in names):
            remedy = "save its arrays as safetensors, or use the PyTorch weights of the same network"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, "is an npz archive of arrays", remedy)
        if not any(name.endswith("data.pkl") for name in names):
            raise GossamerError(
                ErrorCode.FORMAT, path, "is a zip archive, but no PyTorch file", "name the weights in it"
            )
        if any(name.endswith("constants.pkl") for name in names):
            problem = "is a TorchScript program, not a state dict"
            raise GossamerError(ErrorCode.SECURITY, path, problem, "use the weights alone, as safetensors")
    if not trust_pickle:
        problem = "is a pickle, which can run code when it is read"
        remedy = "use the same weights as safetensors, or add --trust-pickle if you trust who made it"
        raise GossamerError(ErrorCode.SECURITY, path, problem, remedy)


def _not_weights(data: bytes, path: Path) -> GossamerError:
    for signature, (what, remedy) in _SIGNATURES.items():
        if data.startswith(signature):
            return GossamerError(ErrorCode.UNSUPPORTED, path, f"is {what}", remedy)
    return GossamerError(ErrorCode.FORMAT, path, "is neither safetensors nor a PyTorch file", "name a file of weights")
