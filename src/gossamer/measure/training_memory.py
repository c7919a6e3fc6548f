"""What a training step will need in memory, before anything is allocated.

The step runs on fake tensors, which have shapes and types but no contents. Every tensor is counted from its birth to
its end, through the backward pass. Added are the two moments of AdamW. What libraries keep for themselves is not seen.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gossamer.nn.models import NetworkConfig, Segmenter
from gossamer.nn.recompute import recompute_blocks

MOMENTS = 2
"""Of AdamW, each as large as the weights."""
LIBRARIES = 64 * 2**20
"""Bytes that a process gains when the kernels of a network are first used."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training adds to a process.

    Attributes:
        weights: of the network.
        optimizer: moments of the weights.
        step: the most that tensors of one step need at once, gradients included.
    """

    weights: int
    optimizer: int
    step: int

    @property
    def total(self) -> int:
        """All of it, with what libraries take."""
        return self.weights + self.optimizer + self.step + LIBRARIES


def forecast_training_memory(
    model: NetworkConfig, batch: int, *, bfloat16: bool = False, recompute: bool = False
) -> TrainingMemory | None:
    """Return what training ``model`` needs; None where its work depends on the contents of the images.

    Args:
        model: the network.
        batch: images of one step in this process.
        bfloat16: whether products are in bfloat16, by autocast.
        recompute: whether blocks are evaluated a second time in the backward pass.
    """
    with torch.device("meta"):
        network = model.build().train()
    network.begin_epoch(0.0)
    if recompute:
        recompute_blocks(network)
    counter = _LiveBytes()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            network.to_empty(device="cpu")
            with counter, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                images = torch.zeros(batch, model.in_channels, *model.image_size)
                if isinstance(network, Segmenter):
                    output = network.training_outputs(images)
                    logits = [output.logits, *(head.logits for head in output.heads)]
                    penalty = output.penalty
                    del output
                else:
                    given, penalty = network.training_output(images)
                    logits = [given]
                    del given
                loss = torch.stack([part.float().log_softmax(dim=1).square().mean() for part in logits]).sum()
                if penalty is not None:
                    loss = loss + penalty.float()
                del logits, penalty
            with counter:
                loss.backward()
    except DataDependentOutputException:
        return None
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return TrainingMemory(weights, MOMENTS * weights, counter.peak)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operators return, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)
