"""The transformer encoder: positions, pre-norm blocks, tokens that can be read after any block.

As in ViT (arXiv 2010.11929, equations 1 to 3). ``Encoder`` is that of segmentation networks, with dropout where the
authors' code and the networks made of it have it: after the positions, and in the feed-forward network after the
activation and at the end; none in the attention. ``ViT`` is made of the same parts and has dropout after the attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require_at_least, require_fraction, require_positive
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import AttentionConfig, SoftmaxConfig
from gossamer.nn.attention.base import Grid
from gossamer.nn.layers.block import Block, require_whole_heads
from gossamer.nn.layers.initialization import initialize_transformer
from gossamer.nn.layers.position import LearnedPosition

Prefix = Literal["attended", "dropped", "none"]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Parameters of the encoder.

    Attributes:
        dim: Width of a token.
        depth: Number of blocks.
        num_heads: Attention heads of a block; divides ``dim``.
        mlp_ratio: Hidden width of the feed-forward network divided by ``dim``.
        attention: Attention mechanism.
        dropout: Dropout probability, in [0, 1), after the positions and in the feed-forward network.
        drop_path: Probability of stochastic depth in the last block, in [0, 1); rises linearly from 0 in the first.
        layer_scale: Initial value of a learned scale of both branches of a block; None, as published, for no scale.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    attention: AttentionConfig = field(default_factory=SoftmaxConfig)
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 1, "dim", "depth", "num_heads")
        require_positive(self, "mlp_ratio")
        require_fraction(self, "dropout", "drop_path")
        require_whole_heads(self.dim, self.num_heads)

    def takes_class_token(self, grid: tuple[int, int]) -> bool:
        """Return whether the mechanism has a place for a token in front of the grid."""
        return is_supported(
            lambda: self.attention.build(self.dim, self.num_heads, grid=grid, num_prefix_tokens=1),
        )


def is_supported(build: Callable[[], object]) -> bool:
    """Return whether ``build`` can make a layer, without allocating its weights; False where it is unsupported."""
    try:
        with torch.device("meta"):
            build()
    except GossamerError as error:
        if error.code is not ErrorCode.UNSUPPORTED:
            raise
        return False
    return True


def build_blocks(
    config: EncoderConfig,
    grid: Grid,
    num_prefix_tokens: int,
    *,
    attention_dropout: float = 0.0,
    inner_dropout: float = 0.0,
) -> nn.ModuleList:
    """Return the blocks of an encoder with fresh weights.

    Args:
        config: Parameters of the blocks.
        grid: Rows and columns of tokens.
        num_prefix_tokens: Tokens in front of those of the grid.
        attention_dropout: Dropout probability after the attention, in [0, 1).
        inner_dropout: Dropout probability after the activation of the feed-forward network, in [0, 1).
    """
    return nn.ModuleList(
        Block(
            config.attention.build(
                config.dim,
                config.num_heads,
                grid=grid,
                num_prefix_tokens=num_prefix_tokens,
                dropout=attention_dropout,
            ),
            config.mlp_ratio,
            config.dropout,
            config.drop_path * index / max(1, config.depth - 1),
            config.layer_scale,
            activation=lambda: nn.Sequential(nn.GELU(), nn.Dropout(inner_dropout)) if inner_dropout else nn.GELU(),
        )
        for index in range(config.depth)
    )


def prepend_class_token(
    class_token: Tensor | None, tokens: Float[Tensor, "batch tokens dim"]
) -> Float[Tensor, "batch more dim"]:
    """Return the tokens behind the class token, or the tokens alone where there is none."""
    if class_token is None:
        return tokens
    return torch.cat([class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)


def run_blocks(
    blocks: Iterable[nn.Module],
    tokens: Float[Tensor, "batch tokens dim"],
    grid: tuple[int, int],
    losses: list[Tensor] | None = None,
    **pruned: Tensor,
) -> Float[Tensor, "batch tokens dim"]:
    """Return the tokens after all blocks.

    Args:
        blocks: Blocks, in the order of evaluation.
        tokens: ``(batch, tokens, dim)``, class tokens in front.
        grid: Rows and columns of tokens.
        losses: List that the losses of the attention are appended to; None to compute none.
        pruned: Masks ``kept_queries`` and ``kept_keys``, for a mechanism that takes them.
    """
    for block in blocks:
        tokens = block(tokens, grid, losses=losses, **pruned)
    return tokens


class Encoder(nn.Module):
    """Tokens of a grid, each with its learned position, through the blocks.

    Args:
        config: Parameters of the blocks.
        grid: Rows and columns of tokens that the positions are learned for; any other grid resamples them.
        prefix: ``attended``: a learned class token goes through the blocks with those of the grid; ``dropped``: it gets
            its position and is removed before the first block; or ``none``.
    """

    def __init__(self, config: EncoderConfig, grid: tuple[int, int], prefix: Prefix = "none") -> None:
        super().__init__()
        self.num_prefix_tokens = int(prefix == "attended")
        self.class_token = None if prefix == "none" else nn.Parameter(torch.empty(1, 1, config.dim))
        self.position = LearnedPosition(grid, int(prefix != "none"), config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = build_blocks(config, grid, self.num_prefix_tokens, inner_dropout=config.dropout)
        self.apply(initialize_transformer)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: tuple[int, int],
        read: Sequence[int],
        losses: list[Tensor] | None = None,
    ) -> dict[int, Float[Tensor, "batch tokens dim"]]:
        """Return the tokens of the grid after each of the blocks in ``read``, which are counted from 1.

        Args:
            tokens: Tokens of the grid, in row-major order.
            grid: Rows and columns of tokens.
            read: Numbers of the blocks to read.
            losses: List that the losses of the attention are appended to; None to compute none.
        """
        count = tokens.shape[1]
        tokens = self.dropout(self.position(prepend_class_token(self.class_token, tokens), grid))
        tokens = tokens[:, tokens.shape[1] - self.num_prefix_tokens - count :]
        found = {}
        for number, block in enumerate(self.blocks, start=1):
            tokens = run_blocks([block], tokens, grid, losses)
            if number in read:
                found[number] = tokens[:, self.num_prefix_tokens :]
        return found


class TokensToMap(nn.Module):
    """LayerNorm of every token, and the tokens laid out on their grid."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], grid: tuple[int, int]
    ) -> Float[Tensor, "batch dim rows columns"]:
        """Return the map of normalized tokens."""
        return self.norm(tokens).transpose(1, 2).unflatten(2, grid)
