"""The transformer encoder of segmentation networks: positions, pre-norm blocks, tokens read after any of them.

As in ViT (arXiv 2010.11929, equations 1 to 3), but dropout is where its authors' code and the networks made of it have
it: after the positions, and in the feed-forward network after the activation and at the end; none in the attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import AttentionConfig, SoftmaxConfig
from gossamer.nn.layers.block import Block
from gossamer.nn.layers.position import LearnedPosition

Prefix = Literal["attended", "dropped", "none"]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Parameters of the encoder.

    Attributes:
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads of a block.
        mlp_ratio: hidden width of the feed-forward network over ``dim``.
        attention: the mechanism.
        dropout: probability after the positions and in the feed-forward network.
        drop_path: probability of stochastic depth in the last block; it rises linearly from 0 in the first.
        layer_scale: initial value of a learned scale of both branches of a block; None, as published, for no scale.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
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
        for key in ("dim", "depth", "num_heads", "mlp_ratio"):
            if not getattr(self, key) > 0:
                problem = f"{getattr(self, key)} is not positive"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a positive number")
        for key in ("dropout", "drop_path"):
            if not 0 <= getattr(self, key) < 1:
                problem = f"{getattr(self, key)} is not in [0, 1)"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a probability")
        if self.dim % self.num_heads:
            problem = f"{self.num_heads} heads do not divide a width of {self.dim}"
            raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, "choose a divisor of dim")

    def takes_class_token(self, grid: tuple[int, int]) -> bool:
        """Return whether the mechanism has a place for a token in front of the grid."""
        try:
            with torch.device("meta"):
                self.attention.build(self.dim, self.num_heads, grid=grid, num_prefix_tokens=1)
        except GossamerError as error:
            if error.code is not ErrorCode.UNSUPPORTED:
                raise
            return False
        return True


class Encoder(nn.Module):
    """Tokens of a grid, each with its learned position, through the blocks.

    Args:
        config: of the blocks.
        grid: rows and columns of tokens that the positions are learned for; any other grid resamples them.
        prefix: ``attended``: a learned class token goes through the blocks with those of the grid; ``dropped``: it gets
            its position and is left behind before the first block; or ``none``.
    """

    def __init__(self, config: EncoderConfig, grid: tuple[int, int], prefix: Prefix = "none") -> None:
        super().__init__()
        self.num_prefix_tokens = int(prefix == "attended")
        self.class_token = None if prefix == "none" else nn.Parameter(torch.empty(1, 1, config.dim))
        self.position = LearnedPosition(grid, int(prefix != "none"), config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(
                config.attention.build(
                    config.dim, config.num_heads, grid=grid, num_prefix_tokens=self.num_prefix_tokens
                ),
                config.mlp_ratio,
                config.dropout,
                config.drop_path * index / max(1, config.depth - 1),
                config.layer_scale,
                activation=lambda: (
                    nn.Sequential(nn.GELU(), nn.Dropout(config.dropout)) if config.dropout else nn.GELU()
                ),
            )
            for index in range(config.depth)
        )
        self.apply(_initialize)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: tuple[int, int],
        read: Sequence[int],
        losses: list[Tensor] | None = None,
    ) -> dict[int, Float[Tensor, "batch tokens dim"]]:
        """Return the tokens of the grid after each of the blocks in ``read``, which are counted from 1.

        Args:
            tokens: of the grid, in row-major order.
            grid: rows and columns.
            read: numbers of blocks.
            losses: gets what the attention adds to training, if given.
        """
        count = tokens.shape[1]
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.dropout(self.position(tokens, grid))
        tokens = tokens[:, tokens.shape[1] - self.num_prefix_tokens - count :]
        found = {}
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, grid, losses=losses)
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


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
