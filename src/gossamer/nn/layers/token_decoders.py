"""The three decoders of SETR (Zheng et al., arXiv 2012.15840, section 3.2 and figure 1), from tokens to logits.

Each returns logits on a coarser grid than the image; the network enlarges them in one bilinear step, which is the only
one of the naive decoder, the last doubling of PUP (progressive upsampling) and the second fourfold step of MLA
(multi-level aggregation). The published networks have patches of 16 pixels. For other patches, which are Gossamer's
own, PUP has one convolution for each doubling that fits into the patch, and MLA resizes its levels to a quarter of the
image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.layers.block import NORM_EPS
from gossamer.nn.layers.convolution import ConvolutionUnit, Norm, upsample_features
from gossamer.nn.layers.encoder import TokensToMap

MLA_LEVELS = 4


class NaiveDecoder(nn.Module):
    """Two 1x1 convolutions on the grid of tokens.

    Args:
        dim: Width of a token.
        width: Channels between the convolutions.
        num_classes: Number of maps of logits.
        norm: ``batch`` or ``group``.
    """

    def __init__(self, dim: int, width: int, num_classes: int, norm: Norm) -> None:
        super().__init__()
        self.map = TokensToMap(dim, NORM_EPS)
        self.project = ConvolutionUnit(dim, width, 1, norm=norm, bias=True)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(
        self, tokens: Sequence[Float[Tensor, "batch tokens dim"]], grid: tuple[int, int]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits of each token of the last entry."""
        return self.classifier(self.project(self.map(tokens[-1], grid)))


class ProgressiveDecoder(nn.Module):
    """PUP: 3x3 convolutions, each followed by a doubling; the 1x1 classifier comes before the last doubling.

    Args:
        dim: Width of a token.
        width: Channels of the convolutions.
        num_classes: Number of maps of logits.
        norm: ``batch`` or ``group``.
        patch_size: Side of a patch in pixels; ``floor(log2(patch_size))`` convolutions, at least one.
    """

    def __init__(self, dim: int, width: int, num_classes: int, norm: Norm, patch_size: int) -> None:
        super().__init__()
        self.map = TokensToMap(dim, NORM_EPS)
        steps = max(1, patch_size.bit_length() - 1)
        self.units = nn.ModuleList(
            ConvolutionUnit(dim if index == 0 else width, width, norm=norm, bias=True) for index in range(steps)
        )
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(
        self, tokens: Sequence[Float[Tensor, "batch tokens dim"]], grid: tuple[int, int]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits of the last entry's tokens, at half the side of the image."""
        features = self.map(tokens[-1], grid)
        for index, unit in enumerate(self.units):
            features = unit(features if index == 0 else upsample_features(features, 2, align_corners=False))
        return self.classifier(features)


class ProgressiveAuxiliary(nn.Module):
    """The auxiliary head of PUP: one 3x3 convolution, fourfold enlargement, the 1x1 classifier.

    Args:
        dim: Width of a token.
        width: Channels of the convolution.
        num_classes: Number of maps of logits.
        norm: ``batch`` or ``group``.
    """

    def __init__(self, dim: int, width: int, num_classes: int, norm: Norm) -> None:
        super().__init__()
        self.map = TokensToMap(dim, NORM_EPS)
        self.unit = ConvolutionUnit(dim, width, norm=norm, bias=True)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(
        self, tokens: Sequence[Float[Tensor, "batch tokens dim"]], grid: tuple[int, int]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits of the last entry's tokens, at four times the side of their grid."""
        # A 1x1 convolution and an interpolation commute; in this order the smaller map is classified.
        return upsample_features(self.classifier(self.unit(self.map(tokens[-1], grid))), 4, align_corners=False)


class MultiLevelDecoder(nn.Module):
    """MLA: tokens of four depths, summed from the deepest upwards, each enlarged, then concatenated.

    Args:
        dim: Width of a token.
        width: Channels of a level; half of them reach the classifier.
        num_classes: Number of maps of logits.
        norm: ``batch`` or ``group``.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, dim: int, width: int, num_classes: int, norm: Norm, patch_size: int) -> None:
        super().__init__()
        self.factor = max(1, patch_size // 4)
        levels, half = range(MLA_LEVELS), width // 2
        self.maps = nn.ModuleList(TokensToMap(dim, NORM_EPS) for _ in levels)
        self.project = nn.ModuleList(ConvolutionUnit(dim, width, 1, norm=norm) for _ in levels)
        self.smooth = nn.ModuleList(ConvolutionUnit(width, width, norm=norm) for _ in levels)
        self.narrow = nn.ModuleList(
            nn.Sequential(ConvolutionUnit(width, half, norm=norm), ConvolutionUnit(half, half, norm=norm))
            for _ in levels
        )
        self.classifier = nn.Conv2d(MLA_LEVELS * half, num_classes, 3, padding=1)

    def levels(
        self, tokens: Sequence[Float[Tensor, "batch tokens dim"]], grid: tuple[int, int]
    ) -> list[Float[Tensor, "batch width rows columns"]]:
        """Return the map of each depth plus those of all deeper ones; the shallowest first."""
        maps = [
            project(to_map(part, grid)) for project, to_map, part in zip(self.project, self.maps, tokens, strict=True)
        ]
        for index in reversed(range(MLA_LEVELS - 1)):
            maps[index] = maps[index] + maps[index + 1]
        return [smooth(features) for smooth, features in zip(self.smooth, maps, strict=True)]

    def fuse(
        self, levels: Sequence[Float[Tensor, "batch width rows columns"]]
    ) -> Float[Tensor, "batch classes down across"]:
        """Return the logits of the levels."""
        # Corners are aligned here only, as in the authors' code.
        parts = [
            upsample_features(narrow(features), self.factor, align_corners=True)
            for narrow, features in zip(self.narrow, levels, strict=True)
        ]
        return self.classifier(torch.cat(parts, dim=1))

    def forward(
        self, tokens: Sequence[Float[Tensor, "batch tokens dim"]], grid: tuple[int, int]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits of four depths' tokens, the shallowest first, at a quarter of the side of the image."""
        return self.fuse(self.levels(tokens, grid))
