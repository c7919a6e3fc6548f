"""Learned positions, one per token, resampled when an image has another grid (arXiv 2010.11929, section 3.2)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LearnedPosition(nn.Module):
    """Add a learned vector to every token.

    Args:
        grid: Rows and columns of tokens that the vectors are learned for.
        num_prefix_tokens: Tokens in front of the grid; they keep their vectors on any grid.
        dim: Width of a token.
        resample: Interpolation of the vectors for another grid.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        num_prefix_tokens: int,
        dim: int,
        resample: Literal["bicubic", "bilinear"] = "bicubic",
    ) -> None:
        super().__init__()
        self.grid = grid
        self.resample: Literal["bicubic", "bilinear"] = resample
        self.num_prefix_tokens = num_prefix_tokens
        self.table = nn.Parameter(torch.empty(1, num_prefix_tokens + math.prod(grid), dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], grid: tuple[int, int]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the tokens with their positions; another grid gets the vectors resampled."""
        if grid == self.grid:
            return tokens + self.table
        prefix, spatial = self.table.split([self.num_prefix_tokens, math.prod(self.grid)], dim=1)
        return tokens + torch.cat([prefix, resample_positions(spatial, self.grid, grid, self.resample)], dim=1)


def resample_positions(
    vectors: Float[Tensor, "batch tokens dim"],
    grid: tuple[int, int],
    wanted: tuple[int, int],
    method: Literal["bicubic", "bilinear"],
) -> Float[Tensor, "batch resampled dim"]:
    """Return the vectors of a grid on another one, without prefix tokens.

    Args:
        vectors: Vector of each token of the grid, in row-major order.
        grid: Rows and columns of tokens that the vectors are learned for.
        wanted: Rows and columns of tokens of the result.
        method: Interpolation of the vectors.
    """
    plane = vectors.transpose(1, 2).unflatten(2, grid)
    plane = F.interpolate(plane, size=wanted, mode=method, antialias=False, align_corners=False)
    return plane.flatten(2).transpose(1, 2)
