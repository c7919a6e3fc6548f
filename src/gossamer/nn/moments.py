"""Moments of tokens, and an affine map of tokens, one cache-sized chunk at a time.

Mean and scatter (the sum of outer products of centred tokens) are all that sequence normalization must know about an
image (``docs/decisions/0003``). They are computed chunk by chunk; each chunk is shifted by about its own mean,
corrected for the shift, and merged by Chan's rule ("Updating formulae and a pairwise algorithm for computing sample
variances", 1979). A raw sum of products would lose digits by the square of mean over standard deviation, all of them if
the mean is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function

from gossamer.nn.precision import widen, working_dtype

SHIFT_ROWS = 32
"""Number of rows whose mean a chunk is shifted by: close enough to its own mean, and cheaper than another pass."""
CHUNK = 1024
"""Number of rows of a chunk: enough for the full rate of a matrix product, and few enough for a core's cache."""


@dataclass(frozen=True)
class TokenMoments:
    """Count, mean and scatter of the tokens seen so far, which streams and processes can merge.

    Attributes:
        count: Number of tokens.
        mean: Mean of the tokens.
        scatter: Sum over tokens of the outer product of the centred token with itself.
    """

    count: Float[Tensor, " batch"]
    mean: Float[Tensor, "batch dim"]
    scatter: Float[Tensor, "batch dim dim"]

    @classmethod
    def empty(cls, batch: int, dim: int, device: torch.device | str = "cpu") -> TokenMoments:
        """Return the moments of no tokens."""
        options: dict[str, Any] = {"dtype": torch.float64, "device": device}
        return cls(
            torch.zeros(batch, **options), torch.zeros(batch, dim, **options), torch.zeros(batch, dim, dim, **options)
        )

    def update(self, tokens: Float[Tensor, "batch tokens dim"], token_mask: Tensor | None = None) -> TokenMoments:
        """Return the moments of these and further tokens."""
        return self.merge(token_moments(tokens, token_mask))

    def merge(self, other: TokenMoments) -> TokenMoments:
        """Return the moments of both sets of tokens; the order does not matter."""
        count = self.count + other.count
        share = other.count / count.clamp(min=1.0)
        delta = other.mean - self.mean
        outer = delta[:, :, None] * delta[:, None, :]
        scatter = self.scatter + other.scatter + outer * (self.count * share)[:, None, None]
        return TokenMoments(count, self.mean + delta * share[:, None], scatter)

    def finish(self) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim dim"]]:
        """Return the mean and the biased covariance."""
        return self.mean, self.scatter / self.count.clamp(min=1.0)[:, None, None]


def token_moments(
    tokens: Float[Tensor, "batch tokens dim"], token_mask: Bool[Tensor, "batch tokens"] | None = None
) -> TokenMoments:
    """Return the moments of each sample's real tokens in float64, from products in float32 or wider.

    The backward pass keeps only the tokens, not their centred copies.
    """
    if token_mask is None:
        count = torch.ones(tokens.shape[0], dtype=torch.float64, device=tokens.device) * tokens.shape[1]
    else:
        tokens = tokens.masked_fill(~token_mask[..., None], 0.0)
        count = token_mask.sum(dim=1).double()
    with torch.autocast(tokens.device.type, enabled=False):
        if torch.compiler.is_exporting():
            return TokenMoments(count, *_whole_moments(tokens, token_mask, count))
        return TokenMoments(count, *_Moments.apply(tokens, token_mask, count))


def apply_affine_map(
    tokens: Float[Tensor, "batch tokens dim"],
    mean: Float[Tensor, "batch dim"],
    matrix: Float[Tensor, "batch dim out"],
    offset: Float[Tensor, "batch out"],
) -> Float[Tensor, "batch tokens out"]:
    """Return ``(tokens - mean) @ matrix + offset`` for each sample.

    The mean is subtracted first: folded into the offset it would cost the digits that the moments keep. The part of a
    float64 mean that rounding removes goes into the offset.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        rounded = mean.to(working_dtype(tokens))
        lost = (mean - rounded).detach().to(matrix.dtype)
        offset = offset - (lost[:, None] @ matrix)[:, 0]
        if torch.compiler.is_exporting():
            out = (tokens.to(rounded.dtype) - rounded[:, None]) @ matrix.to(rounded.dtype)
            return (out + offset[:, None].to(rounded.dtype)).to(tokens.dtype)
        return _AffineMap.apply(tokens, rounded, matrix, offset)  # type: ignore[no-any-return]


def _split_chunks(tokens: Tensor, token_mask: Tensor | None = None) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Yield the rows of each chunk, the chunk in the working type, and its mask."""
    working = working_dtype(tokens)
    for start in range(0, tokens.shape[1], CHUNK):
        rows = slice(start, min(start + CHUNK, tokens.shape[1]))
        yield rows, tokens[:, rows].to(working), None if token_mask is None else token_mask[:, rows, None]


def _allocate_buffer(tokens: Tensor) -> Tensor:
    """Return memory for one centred chunk; a new tensor for each chunk would fragment the memory."""
    return tokens.new_empty(tokens.shape[0], min(CHUNK, tokens.shape[1]), tokens.shape[2], dtype=working_dtype(tokens))


def _center_chunk(chunk: Tensor, mean: Tensor, mask: Tensor | None, buffer: Tensor) -> Tensor:
    """Return the centred chunk, in the buffer; padding is zero."""
    centred = torch.sub(chunk, mean[:, None].to(chunk.dtype), out=buffer[:, : chunk.shape[1]])
    return centred if mask is None else centred.masked_fill_(~mask, 0.0)


def _whole_moments(tokens: Tensor, token_mask: Tensor | None, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and scatter without chunks, for a graph, which has no loop."""
    tokens = widen(tokens)
    mean = tokens.sum(dim=1) / count.clamp(min=1.0)[:, None].to(tokens.dtype)
    centred = tokens - mean[:, None]
    centred = centred if token_mask is None else centred.masked_fill(~token_mask[..., None], 0.0)
    return mean.double(), (centred.transpose(1, 2) @ centred).double()


class _Moments(Function):
    """Mean and scatter by chunks; the backward pass visits the chunks again."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, token_mask: Tensor | None, count: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, dim = tokens.shape
        scatter = torch.zeros(batch, dim, dim, dtype=torch.float64, device=tokens.device)
        chunks, buffer = -(-tokens.shape[1] // CHUNK), _allocate_buffer(tokens)
        shifts, sums = buffer.new_empty(2, batch, chunks, dim)
        numbers = count.new_empty(batch, chunks, 1)
        for index, (rows, chunk, mask) in enumerate(_split_chunks(tokens, token_mask)):
            numbers[:, index] = rows.stop - rows.start if mask is None else mask.sum(dim=1)
            if mask is None:
                shifts[:, index] = chunk[:, :SHIFT_ROWS].mean(dim=1)
            else:
                shifts[:, index] = chunk.sum(dim=1) / numbers[:, index].clamp(min=1.0).to(chunk.dtype)
            centred = _center_chunk(chunk, shifts[:, index], mask, buffer)
            scatter += torch.bmm(centred.transpose(1, 2), centred)
            sums[:, index] = centred.sum(dim=1)
        delta = sums.double() / numbers.clamp(min=1.0)
        scatter -= torch.bmm((delta * numbers).transpose(1, 2), delta)
        means = shifts.double() + delta
        mean = (means * numbers).sum(dim=1) / count.clamp(min=1.0)[:, None]
        if chunks > 1:
            spread = means - mean[:, None]
            scatter += torch.bmm((spread * numbers).transpose(1, 2), spread)
        ctx.save_for_backward(tokens, token_mask, count, mean)
        return mean, scatter

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        tokens, token_mask, count, mean = ctx.saved_tensors
        of_mean, of_scatter = gradients
        working = working_dtype(tokens)
        symmetric = (of_scatter + of_scatter.transpose(1, 2)).to(working)
        shift = (of_mean / count.clamp(min=1.0)[:, None])[:, None].to(working)
        out, buffer = torch.empty_like(tokens), _allocate_buffer(tokens)
        for rows, chunk, mask in _split_chunks(tokens, token_mask):
            gradient = torch.baddbmm(shift, _center_chunk(chunk, mean, mask, buffer), symmetric)
            out[:, rows] = gradient if mask is None else gradient.masked_fill(~mask, 0.0)
        return out, None, None


class _AffineMap(Function):
    """``(tokens - mean) matrix + offset`` by chunks."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, mean: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
        working = working_dtype(tokens)
        ctx.save_for_backward(tokens, mean, matrix)
        ctx.types = (mean.dtype, matrix.dtype, offset.dtype)
        matrix, offset = matrix.to(working), offset[:, None].to(working)
        out = tokens.new_empty(tokens.shape[0], tokens.shape[1], matrix.shape[2])
        buffer = _allocate_buffer(tokens)
        for rows, chunk, _ in _split_chunks(tokens):
            centred = _center_chunk(chunk, mean, None, buffer)
            if out.dtype == working:
                torch.baddbmm(offset, centred, matrix, out=out[:, rows])
            else:
                out[:, rows] = torch.baddbmm(offset, centred, matrix)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        tokens, mean, matrix = ctx.saved_tensors
        working = working_dtype(tokens)
        transposed = matrix.to(working).transpose(1, 2)
        of_tokens, buffer = torch.empty_like(tokens), _allocate_buffer(tokens)
        of_matrix = torch.zeros(matrix.shape, dtype=torch.float64, device=matrix.device)
        of_offset = torch.zeros(matrix.shape[0], matrix.shape[2], dtype=torch.float64, device=matrix.device)
        for rows, chunk, _ in _split_chunks(tokens):
            gradient = gradients[0][:, rows].to(working)
            of_tokens[:, rows] = torch.bmm(gradient, transposed)
            of_matrix += torch.bmm(_center_chunk(chunk, mean, None, buffer).transpose(1, 2), gradient)
            of_offset += gradient.sum(dim=1)
        of_mean = -torch.bmm(of_offset[:, None], transposed.double())[:, 0]
        return of_tokens, *(g.to(t) for g, t in zip((of_mean, of_matrix, of_offset), ctx.types, strict=True))
