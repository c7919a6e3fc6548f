"""A decoder that doubles the resolution step by step and joins the map of a stem at each.

The cascaded upsampler of TransUNet (Chen et al., arXiv 2102.04306, section 3.2) in its general form.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.layers.convolution import ConvolutionUnit, Norm, upsample_features
from gossamer.nn.layers.convolution_pyramid import build_double_convolution


class UpsampleUnit(nn.Module):
    """Bilinear doubling, concatenation with the stem's map, two 3x3 convolutions.

    Args:
        in_channels: Channels of the coarse map.
        skip_channels: Channels of the stem's map; 0 for none.
        out_channels: Channels of the result.
        norm: ``batch`` or ``group``.
        align_corners: Whether the centres of the corner pixels of both maps coincide.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, norm: Norm, *, align_corners: bool
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.convolutions = build_double_convolution(in_channels + skip_channels, out_channels, out_channels, norm)

    def forward(
        self,
        features: Float[Tensor, "batch channels rows columns"],
        skip: Float[Tensor, "batch kept down across"] | None = None,
    ) -> Float[Tensor, "batch out down across"]:
        """Return the map at twice the resolution."""
        features = upsample_features(features, 2, align_corners=self.align_corners)
        return self.convolutions(features if skip is None else torch.cat([features, skip], dim=1))


class CascadedUpsampler(nn.Module):
    """A 3x3 convolution, one ``UpsampleUnit`` per step, and a 3x3 convolution to the logits.

    Args:
        in_channels: Channels of the coarsest map.
        widths: Channels after the first convolution and after each step.
        skip_channels: Channels of the stem's maps, the coarsest first; the last steps may have none.
        num_classes: Number of maps of logits.
        norm: ``batch`` or ``group``.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], skip_channels: tuple[int, ...], num_classes: int, norm: Norm
    ) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        skips = [*skip_channels, *[0] * (len(steps) - len(skip_channels))]
        self.entry = ConvolutionUnit(in_channels, widths[0], norm=norm)
        self.steps = nn.ModuleList(
            UpsampleUnit(coarse, skip, fine, norm, align_corners=True)
            for (coarse, fine), skip in zip(steps, skips, strict=True)
        )
        self.classifier = nn.Conv2d(widths[-1], num_classes, 3, padding=1)

    def forward(
        self, features: Float[Tensor, "batch channels rows columns"], skips: Sequence[Tensor]
    ) -> Float[Tensor, "batch classes down across"]:
        """Return the logits, at ``2 ** steps`` times the resolution."""
        features = self.entry(features)
        for index, step in enumerate(self.steps):
            features = step(features, skips[index] if index < len(skips) else None)
        return self.classifier(features)
