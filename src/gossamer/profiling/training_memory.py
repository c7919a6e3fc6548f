"""Forecast of the memory of a training step, before anything is allocated.

The step runs on fake tensors, which have shapes and types but no content. Every tensor is counted while it exists,
through the backward pass. The two moments of AdamW are added. Memory that libraries keep for themselves is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gossamer.nn.models import NetworkConfig
from gossamer.nn.recompute import recompute_blocks
from gossamer.profiling.live_bytes import LiveBytes, OverLimitError

MOMENTS = 2
"""Number of moments of AdamW, each as large as the weights."""
LIBRARIES = 64 * 2**20
"""Bytes by which a process grows when the kernels of a network are first used."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training adds to a process.

    Attributes:
        weights: Bytes of the weights.
        optimizer: Bytes of the moments of the optimizer.
        step: Largest number of bytes of tensors that exist at once in a step, gradients included.
        at_least: Whether counting ended early, so that a step needs more than this.
    """

    weights: int
    optimizer: int
    step: int
    at_least: bool = False

    @property
    def total(self) -> int:
        """All bytes, with the memory of libraries."""
        return self.weights + self.optimizer + self.step + LIBRARIES


def forecast_training_memory(
    model: NetworkConfig, batch: int, *, bfloat16: bool = False, recompute: bool = False, limit: int | None = None
) -> TrainingMemory | None:
    """Return the memory that training ``model`` needs; None if its work depends on the content of the images.

    Args:
        model: Config of the network.
        batch: Number of images of one step in this process.
        bfloat16: Whether products are in bfloat16, by autocast.
        recompute: Whether blocks are evaluated again in the backward pass.
        limit: Bytes of a step above which counting ends: much larger steps are found early in the forward pass
            (default: no limit).
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
