"""A mechanism as a researcher writes one: linear attention (Katharopoulos et al., arXiv 2006.16236)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.nn.attention.base import Attention, AttentionConfig, Grid, Host, split_heads, zero_padding
from gossamer.nn.cost import Cost, linear_cost


@dataclass(frozen=True)
class LinearConfig(AttentionConfig):
    """Parameters of linear attention.

    Attributes:
        offset: Number added to the feature map, above 0.
    """

    offset: float = 1.0
    name: ClassVar[str] = "linear"

    def make(self, host: Host) -> LinearAttention:
        return LinearAttention(self, host)


class LinearAttention(Attention):
    """``phi(Q) phi(K)^T / row sums`` with ``phi(x) = elu(x) + offset``."""

    def __init__(self, config: LinearConfig, host: Host) -> None:
        super().__init__(host)
        self.offset = config.offset
        self.qkv = nn.Linear(host.dim, 3 * host.dim, bias=host.qkv_bias)

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        queries, keys, values = self._features(tokens, grid, token_mask)
        with torch.autocast(tokens.device.type, enabled=False):
            weights = queries @ keys.sum(dim=2)[..., None]
            heads = queries @ (keys.transpose(-2, -1) @ values) / weights
        return self.project(heads.to(tokens.dtype), token_mask)

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        queries, keys, values = self._features(tokens, grid, token_mask)
        matrix = queries @ keys.transpose(-2, -1)
        matrix = matrix / matrix.sum(dim=-1, keepdim=True)
        return matrix if token_mask is None else zero_padding(matrix, token_mask[:, None]), values

    def cost(self, grid: Grid) -> Cost:
        n, c = self.num_tokens(grid), self.dim
        products = Cost(macs=2 * n * c * self.head_dim + n * c, exponentials=2 * n * c, largest_intermediate=3 * n * c)
        return linear_cost(n, c, 3 * c) + products + linear_cost(n, c, c)

    def _features(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        self.check_grid(tokens, grid)
        queries, keys, values = split_heads(self.qkv(zero_padding(tokens, token_mask)), 3, self.num_heads)
        wide = torch.promote_types(queries.dtype, torch.float32)
        queries, keys = (F.elu(part.to(wide)) + self.offset for part in (queries, keys))
        keys = keys if token_mask is None else zero_padding(keys, token_mask[:, None])
        return queries, keys, values.to(wide)
