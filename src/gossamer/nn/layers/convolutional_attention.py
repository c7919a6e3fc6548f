"""Attention behind convolutional projections (CvT: Wu et al., arXiv 2103.15808, section 3.2), also without queries.

A depthwise 3x3 convolution and BatchNorm come before each linear projection; those of keys and values have a stride of
2, that of queries has 1. The scale is ``dim ** -0.5``, with the whole width, as in the authors' code. Key-value
attention (arXiv 2305.19129, 2503.18862) has no query projection, so the strides cannot all be kept; ``KeyStride`` lists
the possible treatments:

- ``shared_slice``: one projection at stride 1 gives the queries, every second row and column of it the keys;
- ``shared_twostride``: the same weights are applied at stride 1 and at stride 2. Except for the running statistics of
  BatchNorm, this is the same function as ``shared_slice``, since a 3x3 convolution with padding 1 at stride 2 is the
  one at stride 1, read at even rows and columns;
- ``s1``: keys and values have stride 1 too;
- ``s2``: queries have stride 2 too, and the result is enlarged before the output projection.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.attention import Attention, AttentionConfig, KeyValueConfig, KeyValuePosConfig, SoftmaxConfig
from gossamer.nn.attention.base import Grid, Host, refuse_mask
from gossamer.nn.attention.key_value import attend_with_key_bias, make_position_map, reduce_position_map
from gossamer.nn.cost import Cost, linear_cost

KeyStride = Literal["s1", "shared_twostride", "shared_slice", "s2"]
KEY_STRIDE = 2
"""Stride of keys and values, unless the treatment says otherwise."""
KERNEL = 3


class TokenConvolution(nn.Module):
    """A depthwise 3x3 convolution of the tokens' grid, without a bias, and BatchNorm; prefix tokens stay as they are.

    Args:
        dim: Width of a token.
        num_prefix_tokens: Tokens in front of those of the grid.
        stride: Stride of the convolution.
    """

    def __init__(self, dim: int, num_prefix_tokens: int = 0, stride: int = 1) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        self.stride = stride
        self.convolution = nn.Conv2d(dim, dim, KERNEL, stride, padding=KERNEL // 2, groups=dim, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], grid: Grid, stride: int | None = None
    ) -> Float[Tensor, "batch fewer dim"]:
        """Return the tokens of the coarser grid that the stride gives, behind the prefix.

        Args:
            tokens: Tokens of the prefix and of the grid.
            grid: Rows and columns of tokens.
            stride: Stride of this call (default: that of the layer).
        """
        prefix, plane = tokens[:, : self.num_prefix_tokens], tokens[:, self.num_prefix_tokens :]
        plane = plane.transpose(1, 2).unflatten(2, grid)
        if stride is None or stride == self.stride:
            plane = self.convolution(plane)
        else:
            plane = F.conv2d(plane, self.convolution.weight, None, stride, KERNEL // 2, 1, plane.shape[1])
        plane = self.norm(plane).flatten(2).transpose(1, 2)
        return torch.cat([prefix, plane], dim=1) if self.num_prefix_tokens else plane


class ProjectionStrides(NamedTuple):
    """Strides of the three projections, and the source of the queries.

    Attributes:
        query: Stride of the queries.
        key: Stride of the keys.
        value: Stride of the values.
        source: Source of the queries: their ``own`` projection; the ``keys`` themselves; or the keys' projection at the
            queries' stride, which is applied a second time for the keys (``shared``) or sliced (``slice``).
    """

    query: int
    key: int
    value: int
    source: Literal["own", "keys", "shared", "slice"]


_SOFTMAX_STRIDES = ProjectionStrides(1, KEY_STRIDE, KEY_STRIDE, "own")
_KEY_VALUE_STRIDES = {
    "s1": ProjectionStrides(1, 1, 1, "keys"),
    "shared_twostride": ProjectionStrides(1, KEY_STRIDE, KEY_STRIDE, "shared"),
    "shared_slice": ProjectionStrides(1, KEY_STRIDE, KEY_STRIDE, "slice"),
    "s2": ProjectionStrides(KEY_STRIDE, KEY_STRIDE, KEY_STRIDE, "keys"),
}


class ConvolutionalAttention(Attention):
    """``softmax(Q K^T / sqrt(dim)) V`` with convolutional projections; Q may be made of K.

    Args:
        config: ``softmax``, with a projection for queries; ``kv``; or ``kv_pos``, with a temperature and a bias for
            each key, which are counted along the sequence of the keys.
        host: Values that the network decides.
        key_stride: Treatment of the stride; without effect for ``softmax``.
    """

    def __init__(
        self,
        config: SoftmaxConfig | KeyValueConfig | KeyValuePosConfig,
        host: Host,
        key_stride: KeyStride = "shared_slice",
    ) -> None:
        super().__init__(host)
        self.strides = _SOFTMAX_STRIDES if isinstance(config, SoftmaxConfig) else _KEY_VALUE_STRIDES[key_stride]
        dim, prefix, bias = host.dim, host.num_prefix_tokens, host.qkv_bias
        own = self.strides.source == "own"
        # BatchNorm of a shared projection has the statistics of the queries.
        shared = self.strides.source in ("shared", "slice")
        self.query_convolution = TokenConvolution(dim, prefix, self.strides.query) if own else None
        self.query = nn.Linear(dim, dim, bias=bias) if own else None
        self.key_convolution = TokenConvolution(dim, prefix, self.strides.query if shared else self.strides.key)
        self.key = nn.Linear(dim, dim, bias=bias)
        self.value_convolution = TokenConvolution(dim, prefix, self.strides.value)
        self.value = nn.Linear(dim, dim, bias=bias)
        self.position_weight = self.position_bias = None
        if isinstance(config, KeyValuePosConfig):
            self.position_weight, self.position_bias = make_position_map(config)

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, through the fused kernel.

        Raises:
            GossamerError: ``E-UNSUPPORTED`` for a token mask, since padding would enter the convolutions.
        """
        self.check_grid(tokens, grid)
        refuse_mask("convolutional projection", token_mask)
        queries, keys, values = self.project_tokens(tokens, grid)
        scale = self.dim**-0.5
        if self.position_weight is None:
            heads = F.scaled_dot_product_attention(queries, keys, values, scale=scale)
        else:
            temperature, bias = self._position_terms(keys)
            heads = attend_with_key_bias(queries, keys, values, temperature, bias, scale=scale)
        return self.project(self._enlarge(heads.transpose(2, 3), grid).transpose(2, 3))

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the matrix, one row per token and one column per key, and V; a stride gives fewer keys than tokens."""
        self.check_grid(tokens, grid)
        refuse_mask("convolutional projection", token_mask)
        queries, keys, values = self.project_tokens(tokens, grid)
        logits = queries @ keys.transpose(-2, -1) * self.dim**-0.5
        if self.position_weight is not None:
            temperature, bias = self._position_terms(keys)
            logits = temperature * logits + bias
        matrix = torch.softmax(logits, dim=-1)
        return self._enlarge(matrix.transpose(2, 3), grid).transpose(2, 3), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of convolutions, projections and products at the number of tokens that each stride gives."""
        queries, keys, values = (self._count_tokens(grid, stride) for stride in self.strides[:3])
        total = Cost()
        if self.strides.source != "keys":
            total += self._projection_cost(queries)
        if self.strides.source != "slice":
            total += self._projection_cost(keys)
        total += self._projection_cost(values)
        size = self.num_heads * queries * keys
        total += Cost(macs=2 * queries * keys * self.dim, exponentials=size, largest_intermediate=size)
        if self.position_weight is not None:
            channels = len(self.position_weight)
            total += Cost(macs=keys * (channels - 2 * math.ceil(channels / 4)))
        return total + linear_cost(self.num_tokens(grid), self.dim, self.dim)

    def project_tokens(
        self, tokens: Float[Tensor, "batch tokens dim"], grid: Grid
    ) -> tuple[
        Float[Tensor, "batch heads queries head_dim"],
        Float[Tensor, "batch heads keys head_dim"],
        Float[Tensor, "batch heads keys head_dim"],
    ]:
        """Return queries, keys and values, each behind its convolution."""
        wide = keys = self.key(self.key_convolution(tokens, grid))
        if self.strides.source == "slice":
            prefix, plane = wide[:, : self.num_prefix_tokens], wide[:, self.num_prefix_tokens :]
            plane = plane.unflatten(1, grid)[:, ::KEY_STRIDE, ::KEY_STRIDE].flatten(1, 2)
            keys = torch.cat([prefix, plane], dim=1) if self.num_prefix_tokens else plane
        elif self.strides.source == "shared":
            keys = self.key(self.key_convolution(tokens, grid, self.strides.key))
        elif self.query is not None and self.query_convolution is not None:
            wide = self.query(self.query_convolution(tokens, grid))
        queries, keys, values = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in (wide, keys, self.value(self.value_convolution(tokens, grid)))
        )
        return queries, keys, values

    def _position_terms(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        assert self.position_weight is not None
        assert self.position_bias is not None
        temperature, bias = reduce_position_map(self.position_weight, self.position_bias, keys.shape[2])
        return temperature.to(keys.dtype), bias.to(keys.dtype)

    def _enlarge(self, heads: Tensor, grid: Grid) -> Tensor:
        """Return (batch, heads, channels, queries) with one query per token, interpolated where there are fewer."""
        if self.strides.query == 1:
            return heads
        prefix, plane = heads[..., : self.num_prefix_tokens], heads[..., self.num_prefix_tokens :]
        plane = plane.flatten(1, 2).unflatten(2, [-(-side // self.strides.query) for side in grid])
        plane = F.interpolate(plane, size=tuple(grid), mode="bilinear", align_corners=False)
        plane = plane.flatten(2).unflatten(1, heads.shape[1:3])
        return torch.cat([prefix, plane], dim=3)

    def _count_tokens(self, grid: Grid, stride: int) -> int:
        return self.num_prefix_tokens + math.prod(-(-side // stride) for side in grid)

    def _projection_cost(self, count: int) -> Cost:
        convolved = (count - self.num_prefix_tokens) * self.dim
        depthwise = Cost(macs=convolved * KERNEL**2, largest_intermediate=convolved)
        return depthwise + linear_cost(count, self.dim, self.dim)


def build_convolutional_attention(
    config: AttentionConfig, host: Host, key_stride: KeyStride
) -> tuple[Attention, TokenConvolution | None]:
    """Return the attention of a CvT block, and the convolution in front of it or None.

    Softmax and key-value attention include their convolutions, one for each projection. Any other mechanism keeps its
    projections: it reads the tokens behind one convolution at stride 1, so its keys are at stride 1 too.

    Raises:
        GossamerError: ``E-UNSUPPORTED``, where the mechanism does not fit the network.
    """
    if isinstance(config, SoftmaxConfig | KeyValueConfig | KeyValuePosConfig):
        return ConvolutionalAttention(config, host, key_stride), None
    attention = config.build(
        host.dim,
        host.num_heads,
        grid=host.grid,
        num_prefix_tokens=host.num_prefix_tokens,
        qkv_bias=host.qkv_bias,
        dropout=host.dropout,
    )
    return attention, TokenConvolution(host.dim, host.num_prefix_tokens)
