"""SUMNet (Nandamuri et al., arXiv 1901.07913), as the convolutional baseline of SaDNN (arXiv 2209.15287).

A VGG-like encoder of eight 3x3 convolutions, each with batch normalization and a ReLU, halves the resolution four
times and keeps the position of each maximum. The decoder puts its values back to those positions, joins the encoder's
last maps of the same level, and convolves, with a ReLU and no normalization. SaDNN is the same network with local
attention in place of each convolution; both are an ``UnpoolingNet``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require
from gossamer.nn.layers.convolution import build_convolution
from gossamer.nn.models.base import InputRequirements, Segmenter, SegmenterConfig

LayerBuilder = Callable[[int, int, int], nn.Module]
"""Function of input channels, output channels and the side of the window; its layer keeps the resolution."""


@dataclass(frozen=True, kw_only=True)
class SUMNetConfig(SegmenterConfig):
    """Parameters of SUMNet.

    Attributes:
        width: Channels of the first convolution, even; the deepest ones have eight times as many.

    Raises:
        GossamerError: ``E-CONFIG``, for a width that is odd or less than 2.
    """

    width: int = 64
    name: ClassVar[str] = "sumnet"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=16, continuous=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        problem = f"half of {self.width} channels, which the last layer but one has, is not a positive whole number"
        require(self.width >= 2 and self.width % 2 == 0, "width", problem, "use a positive even number")

    def build(self) -> SUMNet:
        """Return the network with fresh weights."""
        return SUMNet(self)


class SUMNet(Segmenter):
    """Convolutions down and up again; unpooling reuses the positions of the maxima."""

    config: SUMNetConfig

    def __init__(self, config: SUMNetConfig) -> None:
        super().__init__()
        self.config = config
        self.network = UnpoolingNet(config.in_channels, config.width, config.num_classes, build_convolution)

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        self.check_images(images)
        return self.network(images)


class UnpoolingNet(nn.Module):
    """The encoder and decoder of SUMNet, around any kind of layer.

    Args:
        in_channels: Channels of an image.
        width: Channels of the first layer.
        num_classes: Channels of the result.
        build: Function that makes one layer.
        dropout: Probability of dropping a channel after the second and the third pooling, in [0, 1).
    """

    def __init__(
        self, in_channels: int, width: int, num_classes: int, build: LayerBuilder, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [in_channels, *(width * factor for factor in (1, 2, 4, 4, 8, 8, 8, 8))]
        self.encoder = nn.ModuleList(_normalized_layer(build, before, after) for before, after in pairwise(widths))
        self.dropout = nn.Dropout2d(dropout)
        # From the deepest level up: channels of the unpooled and the joined maps together, then those after each layer.
        factors = ((16, 8, 8), (16, 8, 4), (8, 4, 2), (4, 1))
        self.decoder = nn.ModuleList(
            nn.Sequential(
                *(_rectified_layer(build, width * before, width * after) for before, after in pairwise(level))
            )
            for level in factors
        )
        self.last = nn.Sequential(_rectified_layer(build, 2 * width, width // 2), build(width // 2, num_classes, 1))

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        maps = first = self.encoder[0](images)
        kept: list[tuple[Tensor, Tensor]] = []
        for level in range(4):
            maps = self.encoder[2 * level + 1](self.encoder[2 * level](maps) if level else first)
            pooled, places = F.max_pool2d(maps, 2, return_indices=True)
            kept.append((maps, places))
            maps = self.dropout(pooled) if level in (1, 2) else pooled
        for block, (joined, places) in zip(self.decoder, reversed(kept), strict=True):
            maps = block(torch.cat([F.max_unpool2d(maps, places, [2, 2]), joined], dim=1))
        return self.last(torch.cat([maps, first], dim=1))


def _normalized_layer(build: LayerBuilder, in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(build(in_channels, out_channels, 3), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _rectified_layer(build: LayerBuilder, in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(build(in_channels, out_channels, 3), nn.ReLU(inplace=True))


PRESETS = {
    "sumnet": SUMNetConfig(in_channels=1),
    "sumnet_small": SUMNetConfig(in_channels=1, width=12),
}

SMALL = {
    "sumnet": SUMNetConfig(width=12),
}
