"""Weights on disk: safetensors with a digest, and JSON; never pickle.

A network's folder contains ``model.safetensors`` and ``config.json``. safetensors itself has no checksum, and a flipped
bit in it loads without an error, so its header has a digest of all tensors, which is checked at every load.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from gossamer import __version__, config
from gossamer.arguments import checked_arguments
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes, read_json, write_bytes, write_json
from gossamer.nn.models import Network, config_from_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"

HEADER_KEY = "gossamer"
"""Key in the header of a file of Gossamer, with version, metadata and digest."""


def save_model(model: Network, folder: Path) -> None:
    """Write a network's config and weights into ``folder``, each completely or not at all.

    Raises:
        GossamerError: ``E-NOSPACE`` or ``E-OUTPUT``.
    """
    write_json(folder / CONFIG, {"gossamer": __version__, "model": config.to_json(model.config)})
    save_weights(model.state_dict(), folder)


def save_weights(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write the weights alone, into a folder that has a config already."""
    write_tensors(folder / WEIGHTS, state, {})


@checked_arguments
def load_model(folder: Path | str) -> Network:
    """Return the network of a folder, in evaluation mode.

    Args:
        folder: Run folder, or any folder with ``model.safetensors`` and ``config.json``.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT``, ``E-INTEGRITY`` where the weights were altered, ``E-CONFIG`` where
            the config is not one of Gossamer's, ``E-VALUE`` where weights and config contradict each other.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            problem = "does not exist" if folder.exists() else "is in a folder that does not exist"
            raise GossamerError(ErrorCode.MISSING, folder / name, problem, "give the folder of a run with weights")
    stored = read_json(folder / CONFIG)
    model = config_from_json(stored.get("model", {}), str(folder / CONFIG), opened_folder=folder).build()
    tensors, _ = read_tensors(folder / WEIGHTS)
    needed = model.state_dict()
    for name in sorted(needed.keys() | tensors.keys()):
        if name not in tensors or name not in needed or tensors[name].shape != needed[name].shape:
            has = f"shape {tuple(tensors[name].shape)}" if name in tensors else "no entry"
            needs = f"shape {tuple(needed[name].shape)}" if name in needed else "no such tensor"
            problem = f"tensor {name!r} has {has}, the network of {CONFIG} needs {needs}"
            raise GossamerError(ErrorCode.VALUE, folder / WEIGHTS, problem, "restore the folder from a backup")
    model.load_state_dict(tensors)
    return model.eval()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write named tensors and JSON values to one safetensors file, completely or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry, since safetensors writes several in random order, and equal weights should give equal files.
    header = {"version": __version__, "metadata": metadata, "digest": _compute_digest(plain, metadata)}
    write_bytes(path, safetensors.torch.save(plain, metadata={HEADER_KEY: json.dumps(header)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors and the JSON values of a file of ``write_tensors``, which is read once, never mapped.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT`` where it is not safetensors, ``E-INTEGRITY`` where it was altered.
    """
    data = read_bytes(path)
    try:
        tensors = safetensors.torch.load(data)
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(HEADER_KEY, "{}"))
        metadata = header.get("metadata")
    except (SafetensorError, ValueError, struct.error) as error:
        raise GossamerError(
            ErrorCode.FORMAT, path, f"is not a safetensors file ({error})", "restore it from a backup"
        ) from error
    if "digest" not in header:
        raise GossamerError(ErrorCode.INTEGRITY, path, "has no digest", "use a file that Gossamer wrote")
    if header["digest"] != _compute_digest(tensors, metadata):
        raise GossamerError(
            ErrorCode.INTEGRITY, path, "its contents differ from its digest", "restore it from a backup"
        )
    return tensors, metadata


def _compute_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
