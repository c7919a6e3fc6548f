"""Mechanisms that each break one promise, as a researcher might."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention.base import AttentionConfig, Grid, Host
from gossamer.nn.attention.softmax import SoftmaxAttention
from gossamer.nn.cost import Cost


class WrongCost(SoftmaxAttention):
    """The product with the values is forgotten."""

    def cost(self, grid: Grid) -> Cost:
        right = super().cost(grid)
        return replace(right, macs=right.macs - self.num_tokens(grid) ** 2 * self.dim)


class IgnoredMask(SoftmaxAttention):
    """Padding takes part in the softmax."""

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        return super().forward(tokens, grid)


class NotExportable(SoftmaxAttention):
    """The way through the code depends on the values of the tokens."""

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        if float(tokens.detach().abs().sum()) == 0.0:
            return torch.zeros_like(tokens)
        return super().forward(tokens, grid, token_mask)


class Refusing(SoftmaxAttention):
    """Masks and export are refused, as a mechanism may."""

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        if token_mask is not None or torch.compiler.is_exporting():
            raise GossamerError(ErrorCode.UNSUPPORTED, "refusing", "is for training on whole images", "use softmax")
        return super().forward(tokens, grid)


class WrongGradient(SoftmaxAttention):
    """The gradient stops at the values."""

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        out = super().forward(tokens, grid, token_mask)
        return 0.5 * (out + out.detach())


@dataclass(frozen=True)
class WrongCostConfig(AttentionConfig):
    name: ClassVar[str] = "wrong_cost"

    def make(self, host: Host) -> WrongCost:
        return WrongCost(host)


@dataclass(frozen=True)
class IgnoredMaskConfig(AttentionConfig):
    name: ClassVar[str] = "ignored_mask"

    def make(self, host: Host) -> IgnoredMask:
        return IgnoredMask(host)


@dataclass(frozen=True)
class NotExportableConfig(AttentionConfig):
    name: ClassVar[str] = "not_exportable"

    def make(self, host: Host) -> NotExportable:
        return NotExportable(host)


@dataclass(frozen=True)
class RefusingConfig(AttentionConfig):
    name: ClassVar[str] = "refusing"

    def make(self, host: Host) -> Refusing:
        return Refusing(host)


@dataclass(frozen=True)
class WrongGradientConfig(AttentionConfig):
    name: ClassVar[str] = "wrong_gradient"

    def make(self, host: Host) -> WrongGradient:
        return WrongGradient(host)
