"""The state of a training survives the disk exactly, without pickle, and damage is found."""

from __future__ import annotations

import pickletools
from pathlib import Path

import pytest
import torch

from gossamer.checkpoint import read_tensors, write_tensors
from gossamer.errors import ErrorCode, GossamerError
from gossamer.training.checkpoint_io import SafetensorsCheckpointIO

STATE = {
    "state_dict": {"a": torch.randn(3, 4), "b": torch.tensor(3), "none": torch.zeros(0, 2)},
    "optimizer_states": [
        {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}
    ],
    "callbacks": {"x": {"best": float("-inf"), "nan": float("nan"), "flag": True, "nothing": None, "name": "é"}},
    "epoch": 3,
}


def equal(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and list(left) == list(right) and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(equal, left, right))  # type: ignore[arg-type]
    return type(left) is type(right) and (left == right or (left != left and right != right))


def test_round_trip(tmp_path: Path) -> None:
    plugin = SafetensorsCheckpointIO()
    plugin.save_checkpoint(STATE, tmp_path / "last.ckpt")
    assert equal(plugin.load_checkpoint(tmp_path / "last.ckpt"), STATE)
    with pytest.raises(ValueError, match="opcode"):
        list(pickletools.genops((tmp_path / "last.ckpt").read_bytes()))


def test_what_cannot_be_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object"):
        SafetensorsCheckpointIO().save_checkpoint({"x": object()}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.arange(12.0)}, {"epoch": 3})
    whole = path.read_bytes()
    for position in range(0, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        try:
            tensors, metadata = read_tensors(path)
        except GossamerError:
            continue
        # The only bytes that may change unseen are those that hold no value.
        assert torch.equal(tensors["a"], torch.arange(12.0))
        assert metadata == {"epoch": 3}
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(GossamerError) as caught:
            read_tensors(path)
        assert caught.value.code in (ErrorCode.FORMAT, ErrorCode.INTEGRITY)
