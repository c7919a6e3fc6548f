"""Checkpoints of a training without pickle: tensors as safetensors, everything else as JSON in the header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import CheckpointIO
from torch import Tensor

from gossamer.checkpoint import read_tensors, write_tensors


class SafetensorsCheckpointIO(CheckpointIO):
    """Reads and writes Lightning's checkpoints with ``gossamer.checkpoint``, all or nothing."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        tensors: dict[str, Tensor] = {}
        tree = _flatten_tree(checkpoint, tensors)
        write_tensors(Path(path), tensors, tree)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint of ``path``, on the CPU."""
        tensors, tree = read_tensors(Path(path))
        return _restore_tree(tree, tensors)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def _flatten_tree(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON, with tensors moved to ``tensors`` and every container marked with its type."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.clone()
        return {"tensor": key}
    if isinstance(value, Mapping):
        return {"mapping": [[_flatten_tree(key, tensors), _flatten_tree(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_flatten_tree(item, tensors) for item in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Path):
        return str(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _restore_tree(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return torch.clone(tensors[content])
        case "mapping":
            return {_restore_tree(key, tensors): _restore_tree(item, tensors) for key, item in content}
        case "list":
            return [_restore_tree(item, tensors) for item in content]
        case "tuple":
            return tuple(_restore_tree(item, tensors) for item in content)
        case "float":
            return float(content)
    raise ValueError(f"unknown mark {kind!r} in a checkpoint")
