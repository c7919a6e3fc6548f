"""Double convolutions with pooling between them: the encoder of a U-Net (arXiv 1505.04597) and of APFormer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.layers.convolution import ConvolutionUnit, Norm


class ConvolutionPyramid(nn.ModuleList):
    """Images to maps of half the side each; half of an odd side is rounded up.

    Args:
        in_channels: Channels of an image.
        widths: Channels of each map, that of the full side first.
        norm: ``batch`` or ``group``.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], norm: Norm) -> None:
        super().__init__(
            build_double_convolution(before, after, after, norm) for before, after in pairwise([in_channels, *widths])
        )

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> list[Tensor]:
        """Return the maps, that of the full side first."""
        planes, plane = [], images
        for index, block in enumerate(self):
            plane = block(F.max_pool2d(plane, 2, ceil_mode=True) if index else plane)
            planes.append(plane)
        return planes


def build_double_convolution(channels: int, middle: int, after: int, norm: Norm) -> nn.Sequential:
    """Return two 3x3 convolutions, each with its normalization and a ReLU.

    Args:
        channels: Channels of the input.
        middle: Channels between the two.
        after: Channels of the output.
        norm: ``batch`` or ``group``.
    """
    return nn.Sequential(ConvolutionUnit(channels, middle, norm=norm), ConvolutionUnit(middle, after, norm=norm))
