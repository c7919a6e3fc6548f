"""Convolution, normalization and activation, the unit of stems and decoders.

Weight standardization is that of Qiao et al. (arXiv 1903.10520, equation 3), with the variance over all inputs of a
filter and the constant inside the root.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["batch", "group"]
STANDARDIZATION_EPS = 1e-5


def build_normalization(norm: Norm, channels: int) -> nn.Module:
    """Return batch normalization, or group normalization, with at most eight groups of channels."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(math.gcd(8, channels), channels)


def build_convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Return a convolution with bias that keeps the size, with Kaiming weights for a ReLU behind it and zero biases."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


class ConvolutionUnit(nn.Sequential):
    """A convolution that keeps the size, its normalization and a ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        norm: ``batch`` or ``group``.
        stride: Stride of the convolution; 2 halves an even side.
        bias: Whether the convolution has a bias, which the normalization makes superfluous.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        norm: Norm,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        padding = kernel_size // 2
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias)
        parts = {"convolution": convolution, "norm": build_normalization(norm, out_channels), "activation": nn.ReLU()}
        super().__init__(OrderedDict(parts))


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 over their inputs, whatever the weights are."""

    def forward(
        self, input: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch filters down across"]:
        """Return the convolution with the standardized weights."""
        centred = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(input, centred * torch.rsqrt(variance + STANDARDIZATION_EPS), self.bias)


def upsample_features(
    features: Float[Tensor, "batch channels rows columns"], factor: int, *, align_corners: bool
) -> Float[Tensor, "batch channels down across"]:
    """Return the features, bilinearly enlarged ``factor`` times along both sides."""
    if factor == 1:
        return features
    size = (features.shape[2] * factor, features.shape[3] * factor)
    return F.interpolate(features, size=size, mode="bilinear", align_corners=align_corners)
