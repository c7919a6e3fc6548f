"""The closed form of a network, from the shapes that reach its layers.

The cost of a convolution follows from the shapes of its layers; writing those down by hand a second time would only be
a second place for mistakes. Here the network runs on the meta device, which computes shapes and nothing else.
Convolutions and linear layers are counted by formula, an attention layer by its own ``cost``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.nn.attention import Attention
from gossamer.nn.cost import Cost, linear_cost

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


class Costed(nn.Module):
    """A layer that returns its own cost, for products that are neither convolution nor linear layer."""

    def traced_cost(self, inputs: tuple[Any, ...], output: Any) -> Cost:
        """Return the closed form of one call; the layers inside it are not counted again.

        Args:
            inputs: Positional arguments of ``forward``, on the meta device.
            output: Result of ``forward``.
        """
        raise NotImplementedError


def trace_cost(network: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Return what one image of ``shape`` (channels, rows, columns) costs.

    Args:
        network: Network on the meta device, in evaluation mode. Its attention layers are replaced, so it cannot be
            used afterwards.
        shape: Shape of the image.
    """
    total: list[Cost] = []
    for name, module in list(network.named_modules()):
        if isinstance(module, Attention):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, _Recorder(module, total))
    inside = {
        id(part)
        for module in network.modules()
        if isinstance(module, Costed)
        for part in module.modules()
        if part is not module
    }
    for module in network.modules():
        if isinstance(module, (Costed, nn.Linear, *_CONVOLUTIONS)) and id(module) not in inside:
            module.register_forward_hook(lambda layer, inputs, output: total.append(_layer_cost(layer, inputs, output)))
    with torch.no_grad():
        network(torch.zeros(1, *shape, device="meta"))
    return sum(total, Cost())


class _Recorder(nn.Module):
    """Replacement for an attention layer that records its closed form and returns the tokens."""

    def __init__(self, attention: Attention, total: list[Cost]) -> None:
        super().__init__()
        self.cost = attention.cost
        self.total = total
        self.dim = attention.dim
        self.num_tokens = attention.num_tokens

    def forward(self, tokens: Tensor, grid: tuple[int, ...], token_mask: Tensor | None = None, **_: Any) -> Tensor:
        self.total.append(self.cost(grid))
        return tokens


def _layer_cost(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Cost:
    if isinstance(layer, Costed):
        return layer.traced_cost(inputs, output)
    if isinstance(layer, nn.Linear):
        return linear_cost(output.numel() // output.shape[-1], layer.in_features, layer.out_features)
    assert isinstance(layer, _CONVOLUTIONS)
    # Each position of the smaller map is multiplied by each weight once: outputs of a convolution, inputs of a
    # transposed one.
    smaller = output if isinstance(layer, nn.Conv2d) else inputs[0]
    positions = smaller.shape[0] * smaller.shape[2] * smaller.shape[3]
    return Cost(macs=positions * layer.weight.numel(), largest_intermediate=output.numel())
