"""Softmax attention, the baseline (Vaswani et al., "Attention Is All You Need", equation 1).

Evaluated by PyTorch's fused kernel, which never stores the N x N matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.nn.attention.base import (
    Attention,
    AttentionConfig,
    Grid,
    Host,
    MechanismNote,
    masked_softmax,
    split_heads,
    zero_padding,
)
from gossamer.nn.cost import Cost, linear_cost


@dataclass(frozen=True)
class SoftmaxConfig(AttentionConfig):
    """Softmax attention has no parameters of its own; the scale is ``head_dim ** -0.5``."""

    name: ClassVar[str] = "softmax"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Vaswani et al., arXiv 1706.03762",
        equation="softmax(Q Kᵀ / √d) V",
        cost="4 N C² + 2 N² C",
        use=(
            "For up to a few hundred tokens, with published weights, or as the baseline that other mechanisms are "
            "compared with."
        ),
        departures="None. PyTorch's fused kernel evaluates it and never stores the N × N matrix.",
    )

    def make(self, host: Host) -> SoftmaxAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return SoftmaxAttention(host)


class SoftmaxAttention(Attention):
    """``softmax(Q K^T / sqrt(d)) V`` for each head."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.qkv = nn.Linear(host.dim, 3 * host.dim, bias=host.qkv_bias)

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, evaluated by the fused kernel."""
        self.check_grid(tokens, grid)
        queries, keys, values = split_heads(self.qkv(zero_padding(tokens, token_mask)), 3, self.num_heads)
        mask = None if token_mask is None else token_mask[:, None, None, :]
        heads = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.project(heads, token_mask)

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``softmax(Q K^T / sqrt(d))`` and V; rows of padding are zero."""
        self.check_grid(tokens, grid)
        queries, keys, values = split_heads(self.qkv(zero_padding(tokens, token_mask)), 3, self.num_heads)
        return masked_softmax(queries @ keys.transpose(-2, -1) * self.head_dim**-0.5, token_mask), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of four projections of ``N C^2``, two products of ``N^2 C``, and the softmax."""
        n, c = self.num_tokens(grid), self.dim
        products = Cost(
            macs=2 * n * n * c, exponentials=self.num_heads * n * n, largest_intermediate=self.num_heads * n * n
        )
        return linear_cost(n, c, 3 * c) + products + linear_cost(n, c, c)
