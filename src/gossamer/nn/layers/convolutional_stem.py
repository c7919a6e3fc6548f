"""Convolutional stems that also return their maps at each resolution: that of R50-ViT, and a plain residual one.

``ResNetStem`` is the first three stages of a ResNet-50 with weight-standardized convolutions and group normalization
("BiT", Kolesnikov et al., arXiv 1912.11370), as TransUNet (arXiv 2102.04306) uses it. ``ResidualStem`` is ours, for
small images: it starts at full resolution, so that a decoder sees the edges of objects of a few pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.layers.convolution import ConvolutionUnit, Norm, StandardizedConv2d, build_normalization

_GROUPS = 32
_EXPANSION = 4
_EPS = 1e-6


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut, each normalized; the stride is in the middle one.

    Args:
        in_channels: Channels of the input.
        width: Channels of the middle; the output has four times as many.
        stride: Stride of the branch, 1 or 2.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = _EXPANSION * width
        self.branch = nn.Sequential(
            StandardizedConv2d(in_channels, width, 1, bias=False),
            nn.GroupNorm(_GROUPS, width, eps=_EPS),
            nn.ReLU(),
            StandardizedConv2d(width, width, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width, eps=_EPS),
            nn.ReLU(),
            StandardizedConv2d(width, out_channels, 1, bias=False),
            nn.GroupNorm(_GROUPS, out_channels, eps=_EPS),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                StandardizedConv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.GroupNorm(out_channels, out_channels),
            )

    def forward(self, features: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out down across"]:
        """Return the sum of branch and shortcut, rectified."""
        return F.relu(self.branch(features) + self.shortcut(features))


class ResNetStem(nn.Module):
    """A 7x7 convolution at half the resolution, a maximum pool without padding, stages of bottlenecks.

    Args:
        in_channels: Channels of an image.
        width: Channels after the first convolution, a multiple of 32; a stage has 4, 8, ... times as many.
        units: Number of bottlenecks of each stage.
    """

    def __init__(self, in_channels: int, width: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.root = nn.Sequential(
            StandardizedConv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
            nn.GroupNorm(_GROUPS, width, eps=_EPS),
            nn.ReLU(),
        )
        self.pool = nn.MaxPool2d(3, stride=2)
        outputs = [width, *(_EXPANSION * width * 2**index for index in range(len(units)))]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Bottleneck(
                        outputs[index] if unit == 0 else outputs[index + 1],
                        width * 2**index,
                        2 if unit == 0 and index > 0 else 1,
                    )
                    for unit in range(count)
                )
            )
            for index, count in enumerate(units)
        )
        self.out_channels = outputs[-1]
        self.skip_channels = tuple(reversed(outputs[:-1]))

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, "batch out down across"], list[Tensor]]:
        """Return the last stage's map and those before it, the coarsest first.

        The pool without padding makes the map of the first stage one row and one column too small. The stages work on
        it; the maps for the decoder are padded with zeros at the bottom and on the right.
        """
        features = self.root(images)
        kept, features = [features], self.pool(features)
        for index, stage in enumerate(self.stages[:-1]):
            features = stage(features)
            rows, columns = (side // 2 ** (index + 2) for side in images.shape[2:])
            kept.append(F.pad(features, (0, columns - features.shape[3], 0, rows - features.shape[2])))
        return self.stages[-1](features), kept[::-1]


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions around a shortcut, each normalized.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the branch, 1 or 2.
        norm: ``batch`` or ``group``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvolutionUnit(in_channels, out_channels, stride=stride, norm=norm),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            build_normalization(norm, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                build_normalization(norm, out_channels),
            )

    def forward(self, features: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out down across"]:
        """Return the sum of branch and shortcut, rectified."""
        return F.relu(self.branch(features) + self.shortcut(features))


class ResidualStem(nn.Module):
    """Levels of residual units, the first at full resolution, each further one at half of the one before.

    Args:
        in_channels: Channels of an image.
        width: Channels of the first level; each further one has twice as many.
        units: Number of residual units of each level.
        norm: ``batch`` or ``group``.
    """

    def __init__(self, in_channels: int, width: int, units: tuple[int, ...], norm: Norm) -> None:
        super().__init__()
        outputs = [in_channels, *(width * 2**index for index in range(len(units)))]
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(
                    ResidualUnit(
                        outputs[index] if unit == 0 else outputs[index + 1],
                        outputs[index + 1],
                        2 if unit == 0 and index > 0 else 1,
                        norm,
                    )
                    for unit in range(count)
                )
            )
            for index, count in enumerate(units)
        )
        self.out_channels = outputs[-1]
        self.skip_channels = tuple(reversed(outputs[1:-1]))

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, "batch out down across"], list[Tensor]]:
        """Return the last level's map and those before it, the coarsest first."""
        kept, features = [], images
        for level in self.levels:
            features = level(features)
            kept.append(features)
        return features, kept[-2::-1]
