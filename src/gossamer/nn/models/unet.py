"""UNet (Ronneberger et al., arXiv 1505.04597) as SaDNN's reference (arXiv 2209.15287): padded, batch-normalized.

Five levels of two 3x3 convolutions, each without bias and followed by batch normalization and a ReLU; pooling halves
the resolution and the channels double. A 2x2 transposed convolution with stride 2 doubles it again, and
the maps of the same level are concatenated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require_at_least
from gossamer.nn.models.base import InputRequirements, Segmenter, SegmenterConfig

_HALVINGS = 4


@dataclass(frozen=True, kw_only=True)
class UNetConfig(SegmenterConfig):
    """Parameters of a UNet.

    Attributes:
        width: Channels of the first level; each of the four below has twice as many as the one above.

    Raises:
        GossamerError: ``E-CONFIG``, for a width less than 1.
    """

    width: int = 64
    name: ClassVar[str] = "unet"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=2**_HALVINGS)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "width")

    def build(self) -> UNet:
        """Return the network with fresh weights."""
        return UNet(self)


class UNet(Segmenter):
    """Convolutions down and up again, joined at each level."""

    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(_HALVINGS + 1)]
        self.down = nn.ModuleList(
            _build_double_convolution(before, after) for before, after in pairwise([config.in_channels, *widths])
        )
        self.widen = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[-2::-1])
        self.up = nn.ModuleList(_build_double_convolution(2 * width, width) for width in widths[-2::-1])
        self.classifier = nn.Conv2d(config.width, config.num_classes, 1)

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        self.check_images(images)
        maps = self.down[0](images)
        kept: list[Tensor] = []
        for block in self.down[1:]:
            kept.append(maps)
            maps = block(F.max_pool2d(maps, 2))
        for widen, block, joined in zip(self.widen, self.up, reversed(kept), strict=True):
            maps = block(torch.cat([joined, widen(maps)], dim=1))
        return self.classifier(maps)


def _build_double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        convolution = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


PRESETS = {
    "unet": UNetConfig(in_channels=1),
    "unet_32": UNetConfig(in_channels=1, width=32),
    "unet_16": UNetConfig(in_channels=1, width=16),
}

SMALL = {
    "unet": UNetConfig(width=16),
}
