"""SimA (Koohpayegani and Pirsiavash, arXiv 2206.08898): queries and keys divided by their l1 norm over the tokens.

::

    out = concat_h((Q_h / |Q_h|_1) ((K_h / |K_h|_1)^T V_h)) W_O + b_O

The norms are over the tokens, per head and channel. Values are not normalized and nothing is divided by N, so the
output shrinks as 1/N. It is the published mechanism closest to sequence normalization, kept as a baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gossamer.nn.attention.base import Attention, AttentionConfig, Grid, Host, MechanismNote, split_heads, zero_padding
from gossamer.nn.cost import Cost, linear_cost
from gossamer.nn.precision import widen

EPS = 1e-12


@dataclass(frozen=True)
class SimAConfig(AttentionConfig):
    """SimA has no parameters of its own."""

    name: ClassVar[str] = "sima"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Koohpayegani and Pirsiavash, arXiv 2206.08898",
        equation="(Q / ‖Q‖₁) (K / ‖K‖₁)ᵀ V, norms over the tokens",
        cost="4 N C² + 2 N C min(N, d)",
        use="As a baseline for sequence_norm. Its output shrinks as 1/N, so it becomes weaker as images grow.",
        departures=(
            "Only the attention is taken, not the network around it. Norms and products are in float32 under "
            "autocast; both norms are folded into the d × d matrix."
        ),
    )

    def make(self, host: Host) -> SimAAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return SimAAttention(host)


class SimAAttention(Attention):
    """``(Q / |Q|_1) (K / |K|_1)^T V`` for each head, evaluated from the right if tokens outnumber a head's channels."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.qkv = nn.Linear(host.dim, 3 * host.dim, bias=host.qkv_bias)

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, in time and memory linear in their number."""
        queries, keys, values, scale = self._projected(tokens, grid, token_mask)
        with torch.autocast(tokens.device.type, enabled=False):
            if self.num_tokens(grid) < self.head_dim:
                heads = (queries * scale) @ keys.transpose(-2, -1) @ values
            else:
                # Both norms act on the same channel of the small matrix, so the tokens are never rescaled.
                heads = queries @ (scale.transpose(-2, -1) * (keys.transpose(-2, -1) @ values))
        return self.project(heads.to(tokens.dtype))

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(Q / |Q|_1) (K / |K|_1)^T``, whose entries are signed, and V; both zero for padding."""
        queries, keys, values, scale = self._projected(tokens, grid, token_mask)
        with torch.autocast(tokens.device.type, enabled=False):
            return (queries * scale) @ keys.transpose(-2, -1), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of four projections of ``N C^2``, and two products of ``N C min(N, d)``."""
        n, c = self.num_tokens(grid), self.dim
        products = Cost(macs=2 * n * c * (n if n < self.head_dim else self.head_dim), largest_intermediate=3 * n * c)
        return linear_cost(n, c, 3 * c) + products + linear_cost(n, c, c)

    def _projected(
        self, tokens: Tensor, grid: Grid, token_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return queries, keys, values in float32 or wider, and one over the product of both norms."""
        self.check_grid(tokens, grid)
        projected = zero_padding(self.qkv(zero_padding(tokens, token_mask)), token_mask)
        queries, keys, values = split_heads(widen(projected), 3, self.num_heads)
        norms = [part.abs().sum(dim=2, keepdim=True).clamp(min=EPS) for part in (queries, keys)]
        return queries, keys, values, 1.0 / (norms[0] * norms[1])
