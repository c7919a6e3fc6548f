"""Residual networks (He et al., arXiv 1512.03385), the reference for classification of the SaDNN paper.

A stem, four stages of residual blocks (``basic``: two 3x3 convolutions; ``bottleneck``: 1x1, 3x3 and 1x1), the mean
over the last map, a linear classifier. Each stage but the first halves the resolution. A shortcut that changes shape is
a 1x1 convolution with its normalization (option B of the paper). A bottleneck has its stride in the 3x3 convolution
(Goyal et al., arXiv 1706.02677), not in the first 1x1 as in the paper: the form that published counts refer to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require_at_least
from gossamer.nn.layers.convolution import ConvolutionUnit, Norm, build_normalization
from gossamer.nn.models.base import Network, NetworkConfig

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Channels of a block's result divided by those of its 3x3 convolution."""


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(NetworkConfig):
    """Parameters of a residual network. Images may have any size.

    Attributes:
        block: ``basic`` or ``bottleneck``.
        depths: Number of blocks of each stage.
        width: Channels of the stem and of the 3x3 convolutions of the first stage; they double from stage to stage.
        stem: ``pooled``, as published: 7x7 with stride 2, then max-pooling 3x3 with stride 2, so that the first stage
            is at a quarter of the side; or ``small``: only 3x3 with stride 2, for images of few pixels.
        norm: ``batch``, as published, or ``group``, which does not depend on the batch.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range.
    """

    block: Literal["basic", "bottleneck"] = "basic"
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    width: int = 64
    stem: Literal["pooled", "small"] = "pooled"
    norm: Norm = "batch"
    name: ClassVar[str] = "resnet"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "depths", "width")

    def build(self) -> ResNet:
        """Return the network with fresh weights."""
        return ResNet(self)


class ResidualBlock(nn.Module):
    """``relu(shortcut(x) + branch(x))``; no activation at the end of the branch.

    Args:
        block: ``basic`` or ``bottleneck``.
        in_channels: Channels of the input.
        width: Channels of the 3x3 convolutions.
        stride: Stride of the first 3x3 convolution and of the shortcut.
        norm: ``batch`` or ``group``.
    """

    def __init__(
        self, block: Literal["basic", "bottleneck"], in_channels: int, width: int, stride: int, norm: Norm
    ) -> None:
        super().__init__()
        out_channels = width * EXPANSION[block]
        if block == "basic":
            units = [ConvolutionUnit(in_channels, width, 3, norm=norm, stride=stride)]
            last = nn.Conv2d(width, out_channels, 3, padding=1, bias=False)
        else:
            units = [
                ConvolutionUnit(in_channels, width, 1, norm=norm),
                ConvolutionUnit(width, width, 3, norm=norm, stride=stride),
            ]
            last = nn.Conv2d(width, out_channels, 1, bias=False)
        self.branch = nn.Sequential(*units, last, build_normalization(norm, out_channels))
        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        else:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, build_normalization(norm, out_channels))
        self.activation = nn.ReLU()

    def forward(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch out_channels down across"]:
        """Return the maps of the block, at the side over the stride, rounded up."""
        return self.activation(self.shortcut(maps) + self.branch(maps))


class ResNet(Network):
    """A stem, residual blocks, the mean and a linear classifier."""

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        kernel = 7 if config.stem == "pooled" else 3
        unit = ConvolutionUnit(config.in_channels, config.width, kernel, norm=config.norm, stride=2)
        pool = nn.MaxPool2d(3, stride=2, padding=1) if config.stem == "pooled" else nn.Identity()
        self.stem = nn.Sequential(unit, pool)
        self.stages = nn.ModuleList()
        channels = config.width
        for stage, depth in enumerate(config.depths):
            blocks = []
            for place in range(depth):
                width, stride = config.width * 2**stage, 2 if stage > 0 and place == 0 else 1
                blocks.append(ResidualBlock(config.block, channels, width, stride, config.norm))
                channels = width * EXPANSION[config.block]
            self.stages.append(nn.Sequential(*blocks))
        self.classifier = nn.Linear(channels, config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        self.check_images(images)
        maps = self.stem(images)
        for stage in self.stages:
            maps = stage(maps)
        return self.classifier(maps.mean(dim=(2, 3)))


# The small one has batch normalization: with group normalization it learned far less of noisy images in as many steps.
PRESETS = {
    "resnet_18": ResNetConfig(),
    "resnet_50": ResNetConfig(block="bottleneck", depths=(3, 4, 6, 3)),
    "resnet_18_small": ResNetConfig(image_size=(64, 64), width=32, stem="small"),
}

SMALL = {
    "resnet": ResNetConfig(width=8, depths=(1, 1, 1, 1), stem="small"),
}
