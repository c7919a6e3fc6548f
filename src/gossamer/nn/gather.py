"""Gathering of kept tokens and scattering of results, with which pruning skips work instead of masking it.

Samples of a batch keep different numbers of tokens. They are padded to the largest number, rounded up to a bucket, so
that few shapes occur.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BUCKET = 64
"""Multiple to which the number of gathered tokens is rounded up."""


def round_to_bucket(count: int, most: int) -> int:
    """Return ``count`` rounded up to a multiple of ``BUCKET``, at most ``most``."""
    return min(most, -(-count // BUCKET) * BUCKET)


def find_kept_rows(
    kept: Bool[Tensor, "batch tokens"],
) -> tuple[Int[Tensor, "batch rows"], Bool[Tensor, "batch rows"]]:
    """Return the indices of the kept tokens of each sample, in their order and padded, and a mask of the real ones."""
    counts = kept.sum(dim=1)
    width = round_to_bucket(int(counts.max()), kept.shape[1])
    # A stable sort of "dropped" puts the kept ones first, in their order.
    order = torch.argsort((~kept).to(torch.uint8), dim=1, stable=True)[:, :width]
    return order, torch.arange(width, device=kept.device) < counts[:, None]


def gather_rows(
    tokens: Float[Tensor, "batch tokens dim"], rows: Int[Tensor, "batch rows"]
) -> Float[Tensor, "batch rows dim"]:
    """Return the tokens at the given indices of each sample."""
    return tokens.gather(1, rows[..., None].expand(-1, -1, tokens.shape[2]))


def scatter_rows(
    values: Float[Tensor, "batch rows dim"],
    rows: Int[Tensor, "batch rows"],
    real: Bool[Tensor, "batch rows"],
    count: int,
) -> Float[Tensor, "batch tokens dim"]:
    """Return ``count`` tokens with the values at their indices, and exact zeros elsewhere."""
    out = values.new_zeros(values.shape[0], count, values.shape[2])
    return out.scatter(1, rows[..., None].expand_as(values), values.masked_fill(~real[..., None], 0.0))
