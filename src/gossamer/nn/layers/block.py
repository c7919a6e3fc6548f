"""The pre-norm transformer block: ``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require
from gossamer.nn.attention import Attention
from gossamer.nn.attention.base import Grid
from gossamer.nn.cost import Cost, linear_cost

NORM_EPS = 1e-6


class FeedForward(nn.Module):
    """Two linear layers with an activation between them: an exact GELU, unless a network has another."""

    def __init__(self, dim: int, hidden: int, dropout: float, activation: Callable[[], nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.dim = dim
        self.hidden = hidden
        self.expand = nn.Linear(dim, hidden)
        self.activation = activation()
        self.contract = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Return the tokens, each transformed independently."""
        return self.dropout(self.contract(self.activation(self.expand(tokens))))

    def cost(self, tokens: int) -> Cost:
        """Return the closed form for ``tokens`` tokens."""
        return linear_cost(tokens, self.dim, self.hidden) + linear_cost(tokens, self.hidden, self.dim)


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, skip a branch for a sample with ``probability``."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Return the branch, scaled so that its expectation is kept."""
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        return branch * (torch.rand(branch.shape[0], 1, 1, device=branch.device) < keep).to(branch.dtype) / keep


class Block(nn.Module):
    """One transformer block around any attention mechanism.

    Args:
        attention: Attention mechanism; its width of a token is that of the block.
        mlp_ratio: Hidden width of the feed-forward network divided by that of a token.
        dropout: Dropout probability after the feed-forward network, in [0, 1).
        drop_path: Probability of stochastic depth on both branches, in [0, 1).
        layer_scale: Initial value of a learned scale of each channel of both branches (LayerScale, arXiv 2103.17239);
            None for no scale. A small value starts the block near the identity.
        activation: Activation of the feed-forward network.
        norm_eps: Constant that both normalizations add to the variance.
        before_attention: Module that maps the normalized tokens and their grid to what the attention reads.
    """

    def __init__(
        self,
        attention: Attention,
        mlp_ratio: float,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        activation: Callable[[], nn.Module] = nn.GELU,
        norm_eps: float = NORM_EPS,
        before_attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        dim = attention.dim
        self.attention_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.before_attention = before_attention
        self.attention = attention
        self.feed_forward_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.feed_forward = FeedForward(dim, int(dim * mlp_ratio), dropout, activation)
        self.drop_path = DropPath(drop_path)
        self.attention_scale = _layer_scale(dim, layer_scale)
        self.feed_forward_scale = _layer_scale(dim, layer_scale)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: Grid,
        token_mask: Tensor | None = None,
        losses: list[Tensor] | None = None,
        **pruned: Tensor,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the tokens after both branches.

        Args:
            tokens: ``(batch, tokens, dim)``.
            grid: Token counts along each axis.
            token_mask: True for real tokens; None where all are real.
            losses: List that the loss of the attention is appended to; None to compute none.
            pruned: Masks ``kept_queries`` and ``kept_keys``, for a mechanism that takes them.
        """
        normalized = self.attention_norm(tokens)
        if self.before_attention is not None:
            normalized = self.before_attention(normalized, grid)
        if losses is not None and (loss := self.attention.auxiliary_loss(normalized, grid, token_mask)) is not None:
            losses.append(loss)
        branch = self.attention(normalized, grid, token_mask, **pruned)
        if self.attention_scale is not None:
            branch = branch * self.attention_scale
        tokens = tokens + self.drop_path(branch)
        branch = self.feed_forward(self.feed_forward_norm(tokens))
        if self.feed_forward_scale is not None:
            branch = branch * self.feed_forward_scale
        return tokens + self.drop_path(branch)

    def cost(self, grid: Grid) -> Cost:
        """Return the closed form for one image."""
        return self.attention.cost(grid) + self.feed_forward.cost(self.attention.num_tokens(grid))


def require_whole_heads(dims: int | tuple[int, ...], num_heads: int | tuple[int, ...]) -> None:
    """Raise unless the heads divide the width of a token, of each stage where tuples are given.

    Raises:
        GossamerError: ``E-CONFIG``, naming ``num_heads``.
    """
    for dim, heads in zip(_as_tuple(dims), _as_tuple(num_heads), strict=True):
        require(
            dim % heads == 0, "num_heads", f"{heads} heads do not divide a width of {dim}", "choose a divisor of it"
        )


def _as_tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _layer_scale(dim: int, initial: float | None) -> nn.Parameter | None:
    return None if initial is None else nn.Parameter(torch.full((dim,), initial))
