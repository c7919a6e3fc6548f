"""Gradient checkpointing (Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174).

A transformer block keeps only its input and is evaluated a second time in the backward pass: about a third more time,
for memory that hardly grows with the number of blocks. Dropout and stochastic depth draw the same numbers again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gossamer.nn.layers.block import Block


def recompute_blocks(network: nn.Module) -> int:
    """Make every transformer block of ``network`` discard its activations in training; return the number of blocks."""
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    for block in blocks:
        block.forward = _recompute_forward(block, block.forward)  # type: ignore[method-assign]
    return len(blocks)


def _recompute_forward(block: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(tokens: Tensor, *args: Any, losses: list[Tensor] | None = None, **options: Any) -> Tensor:
        if not (block.training and torch.is_grad_enabled()):
            return forward(tokens, *args, losses=losses, **options)

        def run(tokens: Tensor) -> tuple[Tensor, ...]:
            # A new list: the second evaluation must not append to that of the first.
            found: list[Tensor] | None = None if losses is None else []
            out = forward(tokens, *args, losses=found, **options)
            return (out, *(found or ()))

        out, *found = checkpoint(run, tokens, use_reentrant=False)
        if losses is not None:
            losses.extend(found)
        return out

    return call
