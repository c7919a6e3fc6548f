"""Sequence-normalization attention (arXiv 2406.01314): linear in the tokens, without a softmax.

Queries, keys and values are each normalized over the tokens, per head and channel, with a learnable affine::

    t_hat = gamma (t - mean_tokens(t)) / sqrt(var_tokens(t) + eps) + beta
    out   = concat_h(Q_hat_h (K_hat_h^T V_hat_h / N)) W_O + b_O

Since no softmax stands between them, the product is evaluated from the right, in ``2 N C d`` multiply-accumulates. The
paper's abstract fixes the method; what it leaves open (biased variance, eps, statistics of each image alone) is decided
in ``docs/decisions/0003-sequence-norm-open-points.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention.contract import Attention, AttentionConfig, Grid, split_heads
from gossamer.nn.cost import Cost, linear_cost


@dataclass(frozen=True)
class SequenceNormConfig(AttentionConfig):
    """Parameters of sequence normalization.

    Attributes:
        eps: added to the variance, inside the square root.
        center: subtract the mean over the tokens; without it, divide by the root mean square.

    Raises:
        GossamerError: ``E-CONFIG`` when eps is not positive.
    """

    eps: float = 1e-5
    center: bool = True
    name: ClassVar[str] = "sequence_norm"

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise GossamerError(ErrorCode.CONFIG, "sequence_norm", f"eps {self.eps} is not positive", "use 1e-5")

    def build(
        self, dim: int, num_heads: int, *, num_prefix_tokens: int = 0, qkv_bias: bool = True, dropout: float = 0.0
    ) -> SequenceNormAttention:
        """Return the mechanism for tokens of width ``dim``."""
        return SequenceNormAttention(self, dim, num_heads, num_prefix_tokens, qkv_bias, dropout)


class SequenceNormAttention(Attention):
    """``Q_hat (K_hat^T V_hat / N)`` for each head, all three normalized over the tokens."""

    def __init__(
        self,
        config: SequenceNormConfig,
        dim: int,
        num_heads: int,
        num_prefix_tokens: int,
        qkv_bias: bool,
        dropout: float,
    ) -> None:
        super().__init__(dim, num_heads, num_prefix_tokens, dropout)
        self.config = config
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        # Rows are queries, keys, values.
        self.gamma = nn.Parameter(torch.ones(3, dim))
        self.beta = nn.Parameter(torch.zeros(3, dim))

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, in time and memory linear in their number."""
        queries, keys, values, count = self._normalized(tokens, grid, token_mask)
        with torch.autocast(tokens.device.type, enabled=False):
            heads = queries @ (keys.transpose(-2, -1) @ values / count)
        return self.project(heads.to(tokens.dtype))

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``Q_hat K_hat^T / N``, whose entries are signed, and ``V_hat``."""
        queries, keys, values, count = self._normalized(tokens, grid, token_mask)
        return queries @ keys.transpose(-2, -1) / count, values

    def cost(self, grid: Grid) -> Cost:
        """Four projections of ``N C^2``, and ``K^T V`` and ``Q M`` of ``N C d`` each."""
        n, c, d = self.num_tokens(grid), self.dim, self.head_dim
        products = Cost(macs=2 * n * c * d, largest_intermediate=3 * n * c)
        return linear_cost(n, c, 3 * c) + products + linear_cost(n, c, c)

    def _normalized(
        self, tokens: Tensor, grid: Grid, token_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return normalized queries, keys and values, in float32 or wider, and the number of real tokens."""
        self.check_grid(tokens, grid)
        if token_mask is not None:
            tokens = tokens.masked_fill(~token_mask[..., None], 0.0)
        projected = self.qkv(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            projected = projected.to(torch.promote_types(projected.dtype, torch.float32))
            gamma, beta = (parameter.to(projected.dtype).flatten() for parameter in (self.gamma, self.beta))
            real = None if token_mask is None else token_mask[..., None]
            if real is None:
                count = torch.full((1, 1, 1), tokens.shape[1], dtype=projected.dtype, device=projected.device)
            else:
                # A sample of padding alone divides by one; its rows are zero in any case.
                count = real.sum(dim=1, keepdim=True).clamp(min=1).to(projected.dtype)
            # Two plain sums: var_mean along a strided axis takes several times as long on a CPU.
            if self.config.center:
                projected = projected - _kept(projected, real).sum(dim=1, keepdim=True) / count
            power = _kept(projected, real).square().sum(dim=1, keepdim=True) / count
            normalized = _kept(projected * (gamma * torch.rsqrt(power + self.config.eps)) + beta, real)
        queries, keys, values = split_heads(normalized, 3, self.num_heads)
        return queries, keys, values, count[..., None]


def _kept(values: Tensor, real: Tensor | None) -> Tensor:
    """Return the values with those of padding set to zero; selected, not multiplied, since 0 * NaN is NaN."""
    return values if real is None else values.masked_fill(~real, 0.0)
