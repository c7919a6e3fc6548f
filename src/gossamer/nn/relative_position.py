"""Relative positions of the tokens of a grid, as APFormer has them (Lin et al., arXiv 2206.14413).

A table holds one bias for every offset (dy, dx) between two tokens: a learned number plus a Gaussian of the distance,
``T[dy, dx] + 0.01 exp(-delta / (2 sigma_h^2 + 1e-6))`` with ``delta = (dy/R)^2 + (dx/C)^2``. Prefix tokens have a bias
of zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gossamer.nn.precision import widen

AMPLITUDE = 0.01
"""Amplitude of the Gaussian, fixed as published."""


def position_table(
    offsets: Float[Tensor, "heads down across"], widths: Float[Tensor, " heads"], grid: tuple[int, ...]
) -> Float[Tensor, "heads table_down table_across"]:
    """Return the bias of each offset ``(dy + R - 1, dx + C - 1)`` of a grid of R x C tokens.

    Args:
        offsets: Learned bias of each offset; interpolated where it is for another grid.
        widths: Standard deviation sigma of the Gaussian of each head.
        grid: ``(rows, columns)``.
    """
    rows, columns = grid
    offsets = widen(offsets)
    if offsets.shape[1:] != (2 * rows - 1, 2 * columns - 1):
        size = (2 * rows - 1, 2 * columns - 1)
        offsets = F.interpolate(offsets[None], size=size, mode="bilinear", align_corners=True)[0]
    down, across = (torch.arange(1 - side, side, device=offsets.device) / side for side in grid)
    distance = (down[:, None].square() + across[None].square()).to(offsets.dtype)
    widths = widen(widths)[:, None, None]
    return offsets + AMPLITUDE * torch.exp(-distance / (2.0 * widths.square() + 1e-6))


def pairwise_bias(table: Tensor, grid: tuple[int, ...], num_prefix_tokens: int) -> Tensor:
    """Return the bias (heads, tokens, tokens) of every pair of tokens, from the table of their offsets."""
    rows, columns = grid
    if torch.compiler.is_exporting():
        query_places, key_places = _table_places(grid, table.device)
        index = query_places[:, None] - key_places[None]
        bias = table.flatten(1)[:, index.flatten()].unflatten(1, index.shape)
    else:
        # Windows of the flipped table are the rows of the matrix, last query first: one copy, no index.
        windows = table.flip(1, 2).unfold(1, rows, 1).unfold(2, columns, 1)
        bias = windows.flip(1, 2).reshape(len(table), rows * columns, rows * columns)
    prefix = num_prefix_tokens
    return F.pad(bias, (prefix, 0, prefix, 0)) if prefix else bias


def gathered_bias(
    table: Tensor, grid: tuple[int, ...], query_rows: Tensor, key_rows: Tensor, num_prefix_tokens: int
) -> Tensor:
    """Return the bias (batch, heads, queries, keys) of gathered tokens alone.

    Args:
        table: Bias of each offset.
        grid: ``(rows, columns)``.
        query_rows: Indices (batch, queries) of the tokens that are queries.
        key_rows: Indices (batch, keys) of the tokens that are keys.
        num_prefix_tokens: Number of tokens before those of the grid.
    """
    prefix, zero = num_prefix_tokens, table[0].numel()
    query_places, key_places = _table_places(grid, table.device)
    # One more entry, zero, for pairs with a prefix token.
    flat = F.pad(table.flatten(1), (0, 1)) if prefix else table.flatten(1)
    index = query_places[(query_rows - prefix).clamp(min=0)][:, :, None]
    index = index - key_places[(key_rows - prefix).clamp(min=0)][:, None]
    if prefix:
        outside = (query_rows < prefix)[:, :, None] | (key_rows < prefix)[:, None]
        index = index.masked_fill(outside, zero)
    places = index.flatten(1)[:, None].expand(-1, len(table), -1)
    return flat[None].expand(len(index), -1, -1).gather(2, places).unflatten(2, index.shape[1:])


def _table_places(grid: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return numbers of query and key whose difference is the place of the pair in the flattened table."""
    rows, columns = grid
    width = 2 * columns - 1
    row, column = torch.arange(rows, device=device)[:, None], torch.arange(columns, device=device)[None]
    place = (row * width + column).flatten()
    return place + (rows - 1) * width + columns - 1, place
