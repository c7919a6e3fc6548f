"""What every attention mechanism promises.

All mechanisms here are linear in their values::

    output = project(merge_heads(A(x) @ V(x)))

They differ in how the matrix A is formed, and in the order in which the product is evaluated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.cost import Cost

Grid = tuple[int, ...]


@dataclass(frozen=True)
class AttentionConfig(ABC):
    """The parameters that belong to one mechanism alone; what a network decides is given to ``build``."""

    name: ClassVar[str]

    @abstractmethod
    def build(
        self, dim: int, num_heads: int, *, num_prefix_tokens: int = 0, qkv_bias: bool = True, dropout: float = 0.0
    ) -> Attention:
        """Return the mechanism for tokens of width ``dim``.

        Args:
            dim: width of a token.
            num_heads: number of heads; divides ``dim``.
            num_prefix_tokens: tokens in front of those of the grid, such as a class token.
            qkv_bias: whether the projections of queries, keys and values have a bias.
            dropout: probability of dropout after the output projection.
        """


class Attention(nn.Module, ABC):
    """A mechanism: tokens in, tokens out.

    Tokens are ``num_prefix_tokens`` and then those of ``grid`` in row-major order, so their number is
    ``num_prefix_tokens + prod(grid)``. ``token_mask`` is True for a real token; real tokens get exactly what they would
    get without the others, and the others get zeros before the output projection's bias.
    """

    def __init__(self, dim: int, num_heads: int, num_prefix_tokens: int, dropout: float) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            problem = f"{num_heads} heads do not divide a width of {dim}"
            raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, "choose a divisor of dim")
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.num_prefix_tokens = num_prefix_tokens
        self.output = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    @abstractmethod
    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: Grid,
        token_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the attended tokens, evaluated in the fastest order."""

    @abstractmethod
    def dense_form(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: Grid,
        token_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Float[Tensor, "batch heads tokens keys"], Float[Tensor, "batch heads keys head_dim"]]:
        """Return the matrix A and the values V of the definition; quadratic in the tokens."""

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Return the closed form of what ``forward`` costs for one image."""

    def apply_dense(
        self,
        matrix: Float[Tensor, "batch heads tokens keys"],
        values: Float[Tensor, "batch heads keys head_dim"],
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return ``project(merge_heads(matrix @ values))``: the definition, evaluated as it is written."""
        return self.project(matrix @ values)

    def project(self, heads: Float[Tensor, "batch heads tokens head_dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Return the heads side by side, through the output projection."""
        return self.dropout(self.output(heads.transpose(1, 2).flatten(2)))

    def num_tokens(self, grid: Grid) -> int:
        """Return the number of tokens of one image."""
        return self.num_prefix_tokens + math.prod(grid)

    def check_grid(self, tokens: Tensor, grid: Grid) -> None:
        """Raise ``ValueError`` unless ``grid`` and the prefix account for every token."""
        if tokens.shape[1] != self.num_tokens(grid):
            raise ValueError(
                f"{tokens.shape[1]} tokens, but {self.num_prefix_tokens} + grid {grid} = {self.num_tokens(grid)}"
            )


def split_heads(
    projected: Float[Tensor, "batch tokens dims"], parts: int, num_heads: int
) -> tuple[Float[Tensor, "batch heads tokens head_dim"], ...]:
    """Return the ``parts`` equal slices of the last axis, each with its heads as the second axis."""
    batch, tokens, width = projected.shape
    shaped = projected.view(batch, tokens, parts, num_heads, width // (parts * num_heads))
    return torch.unbind(shaped.permute(2, 0, 3, 1, 4), dim=0)
