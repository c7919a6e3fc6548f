"""What a training step will need in memory, before anything is allocated.

The step runs on fake tensors, which have shapes and types but no contents. Every tensor is counted from its birth to
its end, through the backward pass. Added are the two moments of AdamW. What libraries keep for themselves is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gossamer.nn.models import NetworkConfig
from gossamer.nn.recompute import recompute_blocks
from gossamer.profiling.live_bytes import LiveBytes, OverLimitError

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
        at_least: whether counting ended early, so that a step needs more than this.
    """

    weights: int
    optimizer: int
    step: int
    at_least: bool = False

    @property
    def total(self) -> int:
        """All of it, with what libraries take."""
        return self.weights + self.optimizer + self.step + LIBRARIES


def forecast_training_memory(
    model: NetworkConfig, batch: int, *, bfloat16: bool = False, recompute: bool = False, limit: int | None = None
) -> TrainingMemory | None:
    """Return what training ``model`` needs; None where its work depends on the contents of the images.

    Args:
        model: the network.
        batch: images of one step in this process.
        bfloat16: whether products are in bfloat16, by autocast.
        recompute: whether blocks are evaluated a second time in the backward pass.
        limit: bytes of a step above which counting ends: what lies far beyond them is found early in the forward pass.
    """
    with torch.device("meta"):
        network = model.build().train()
    network.begin_epoch(0.0)
    if recompute:
        recompute_blocks(network)
    counter = LiveBytes(limit=limit)
    at_least = False
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            network.to_empty(device="cpu")
            with counter, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                images = torch.zeros(batch, model.in_channels, *model.image_size)
                output = network.training_output(images)
                logits = [output.logits, *(head.logits for head in output.heads)]
                penalty = output.penalty
                del output
                loss = torch.stack([part.float().log_softmax(dim=1).square().mean() for part in logits]).sum()
                if penalty is not None:
                    loss = loss + penalty.float()
                del logits, penalty
            with counter:
                loss.backward()
    except OverLimitError:
        at_least = True
    except DataDependentOutputException:
        return None
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return TrainingMemory(weights, MOMENTS * weights, counter.peak, at_least)
