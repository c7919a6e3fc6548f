"""The mechanisms as their papers are usually written down in PyTorch: what the fast forms are compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.nn.attention.base import split_heads
from gossamer.nn.attention.local import LocalAttention
from gossamer.nn.attention.sequence_norm import SequenceNormAttention
from gossamer.nn.attention.soft import SoftAttention


def sequence_norm(attention: SequenceNormAttention, tokens: Tensor) -> Tensor:
    """Return the layer from one projection, statistics, normalization and two products, each a separate operation."""
    projected = attention.qkv(tokens)
    variance, mean = torch.var_mean(projected, dim=1, keepdim=True, correction=0)
    normalized = (projected - mean) * torch.rsqrt(
        variance + 1e-5
    ) * attention.gamma.flatten() + attention.beta.flatten()
    queries, keys, values = split_heads(normalized, 3, attention.num_heads)
    return attention.project(queries @ (keys.transpose(-2, -1) @ values / tokens.shape[1]))


def soft(attention: SoftAttention, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return SOFT with a distance call for each kernel, 20 Newton steps and the published association."""
    points = split_heads(attention.shared(tokens), 1, attention.num_heads)[0] * attention.head_dim**-0.25
    values = split_heads(attention.value(tokens), 1, attention.num_heads)[0]
    planes = points.transpose(-2, -1).flatten(0, 1).unflatten(2, grid)
    cells = F.adaptive_avg_pool2d(planes, (min(7, grid[0]), min(7, grid[1]))).flatten(2).transpose(1, 2)
    landmarks = cells.unflatten(0, (-1, attention.num_heads))
    square = torch.exp(-0.5 * _distance(landmarks, landmarks))
    kernel = torch.exp(-0.5 * _distance(landmarks, points))
    step = 1.8 / square.abs().sum(-1).amax(-1).square()
    jittered = square + 0.01 * torch.eye(square.shape[-1])
    inverse = step[..., None, None] * jittered
    for _ in range(20):
        inverse = 2 * inverse - inverse @ jittered @ inverse
    return attention.project(kernel.transpose(-2, -1) @ (inverse @ (kernel @ values)))


def _distance(left: Tensor, right: Tensor) -> Tensor:
    powers = [part.square().sum(-1) for part in (left, right)]
    return powers[0][..., :, None] + powers[1][..., None, :] - 2 * left @ right.transpose(-2, -1)


def local(attention: LocalAttention, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return local attention with k * k copies of keys and values."""
    window, heads = attention.config.window, attention.num_heads
    side = window // 2
    planes = attention.qkv(tokens).transpose(1, 2).unflatten(2, grid)
    queries, keys, values = planes.chunk(3, dim=1)
    queries = queries.flatten(2).unflatten(1, (heads, -1)) * attention.head_dim**-0.5
    keys, values = (
        F.unfold(part, window, padding=side).unflatten(1, (heads, -1, window**2)) for part in (keys, values)
    )
    keys = keys + attention._relative().transpose(1, 2)[None, ..., None]
    weights = torch.softmax((queries[:, :, :, None] * keys).sum(2), dim=2)
    out = (weights[:, :, None] * values).sum(3).flatten(1, 2).transpose(1, 2)
    return attention.output(out)


class SoftmaxBlock(nn.Module):
    """Softmax attention with its projections, through the fused kernel."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens."""
        queries, keys, values = split_heads(self.qkv(tokens), 3, self.num_heads)
        heads = F.scaled_dot_product_attention(queries, keys, values)
        return self.output(heads.transpose(1, 2).flatten(2))
