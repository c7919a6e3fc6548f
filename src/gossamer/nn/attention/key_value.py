"""Key-value attention (Borji, arXiv 2305.19129; in segmentation networks: Hwa et al., arXiv 2503.18862).

``kv`` drops the query projection: keys serve as queries, so the logits ``K K^T`` are symmetric::

    [K, V] = X W_KV + b ;  A = softmax_j(K K^T / sqrt(d)) ;  out = concat_h(A_h V_h) W_O + b_O

``kv_pos`` adds a fixed sinusoid over the indices (i, j) of the matrix, and one linear map of m channels to one logit,
shared by all heads. The map of a sum is the sum of maps, and terms that depend only on i cancel in a softmax over j, so

    softmax_j(w . (S_ij 1 + P_ij) + b) = softmax_j(alpha S_ij + g(j)),   alpha = sum(w)

exactly: one temperature, and one bias for each key. Only ``dense_form`` builds the table of n x n x m. The sources
differ in scale, biases and initial values; ``docs/mechanisms.md`` states what is done here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.checks import require_at_least
from gossamer.nn.attention.base import (
    FAR,
    Attention,
    AttentionConfig,
    Grid,
    Host,
    MechanismNote,
    masked_softmax,
    split_heads,
    zero_padding,
)
from gossamer.nn.cost import Cost, linear_cost
from gossamer.nn.precision import widen


@dataclass(frozen=True)
class KeyValueConfig(AttentionConfig):
    """Key-value attention has no parameters of its own; the scale is ``head_dim ** -0.5``."""

    name: ClassVar[str] = "kv"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Borji, arXiv 2305.19129; Hwa et al., arXiv 2503.18862",
        equation="softmax(K Kᵀ / √d) V",
        cost="3 N C² + 2 N² C",
        use="To save a twelfth of a block's parameters at up to a few hundred tokens. The product of N² remains.",
        departures=(
            "The scale is that of the head's width, so that a comparison with softmax is not one of temperatures."
        ),
    )

    def make(self, host: Host) -> KeyValueAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return KeyValueAttention(host)


@dataclass(frozen=True)
class KeyValuePosConfig(AttentionConfig):
    """Parameters of key-value attention with the position map.

    Attributes:
        channels: Number m of channels of the sinusoid over each pair of indices, 4 or more.
        faithful_init: Whether the map starts as a default linear layer, as published. The temperature is then random
            and may be negative; otherwise it starts at 1 and the key bias near 0.

    Raises:
        GossamerError: ``E-CONFIG`` for fewer than four channels.
    """

    channels: int = 50
    faithful_init: bool = False
    name: ClassVar[str] = "kv_pos"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Borji, arXiv 2305.19129; Hwa et al., arXiv 2503.18862",
        equation="softmax over j of (α K Kᵀ / √d + g(j)) V",
        cost="as kv, plus N (m − c), with m = 50 and c = 26 channels of the position code",
        use="Like kv, when tokens should know their place and the network has no positions of its own.",
        departures=(
            "Published with a table of N × N × m and one linear map, which exactly equals one temperature and one "
            "bias per key; that form is evaluated here. The temperature starts at 1 rather than at a random sign "
            "(`faithful_init` for the latter)."
        ),
    )

    def __post_init__(self) -> None:
        require_at_least(self, 4, "channels")

    def make(self, host: Host) -> KeyValuePosAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return KeyValuePosAttention(self, host)


class KeyValueAttention(Attention):
    """``softmax(K K^T / sqrt(d)) V`` for each head."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.key_value = nn.Linear(host.dim, 2 * host.dim, bias=host.qkv_bias)

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, through the fused kernel."""
        self.check_grid(tokens, grid)
        keys, values = split_heads(self.key_value(zero_padding(tokens, token_mask)), 2, self.num_heads)
        mask = None if token_mask is None else token_mask[:, None, None, :]
        heads = F.scaled_dot_product_attention(keys, keys, values, attn_mask=mask)
        return self.project(heads, token_mask)

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``softmax(K K^T / sqrt(d))`` and V; rows of padding are zero."""
        self.check_grid(tokens, grid)
        keys, values = split_heads(self.key_value(zero_padding(tokens, token_mask)), 2, self.num_heads)
        return masked_softmax(keys @ keys.transpose(-2, -1) * self.head_dim**-0.5, token_mask), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of three projections of ``N C^2``, two products of ``N^2 C``, and the softmax."""
        return _attention_cost(self.num_tokens(grid), self.dim, self.num_heads)


class KeyValuePosAttention(Attention):
    """``softmax_j(alpha K K^T / sqrt(d) + g(j)) V`` for each head."""

    def __init__(self, config: KeyValuePosConfig, host: Host) -> None:
        super().__init__(host)
        self.config = config
        self.key_value = nn.Linear(host.dim, 2 * host.dim, bias=host.qkv_bias)
        self.code_width = 2 * math.ceil(config.channels / 4)
        self.position_weight, self.position_bias = make_position_map(config)

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, through the fused kernel."""
        self.check_grid(tokens, grid)
        keys, values = split_heads(self.key_value(zero_padding(tokens, token_mask)), 2, self.num_heads)
        heads = attend_with_key_bias(
            keys,
            keys,
            values,
            *reduce_position_map(self.position_weight, self.position_bias, keys.shape[2]),
            scale=self.head_dim**-0.5,
            token_mask=token_mask,
        )
        return self.project(heads, token_mask)

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the matrix as published, from the table over all pairs of indices, and V."""
        self.check_grid(tokens, grid)
        keys, values = split_heads(self.key_value(zero_padding(tokens, token_mask)), 2, self.num_heads)
        scores = keys @ keys.transpose(-2, -1) * self.head_dim**-0.5
        code = sinusoidal_positions(self.num_tokens(grid), self.code_width, keys)
        count = len(code)
        pairs = [code[:, None].expand(-1, count, -1), code[None].expand(count, -1, -1)]
        table = torch.cat(pairs, dim=-1)[..., : self.config.channels]
        logits = F.linear(scores[..., None] + table, self.position_weight[None], self.position_bias)[..., 0]
        return masked_softmax(logits, token_mask), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of ``kv``, plus ``N (m - c)`` for the bias of the keys; c channels code the queries."""
        n = self.num_tokens(grid)
        return _attention_cost(n, self.dim, self.num_heads) + Cost(macs=n * (self.config.channels - self.code_width))


def make_position_map(config: KeyValuePosConfig) -> tuple[nn.Parameter, nn.Parameter]:
    """Return fresh weights (m) and the bias (1) of the map from a pair's sinusoid to its logit.

    They are plain parameters, so that a network's initialization and weight decay of linear layers leave them alone.
    """
    weight = nn.Parameter(torch.full((config.channels,), 1 / config.channels))
    bias = nn.Parameter(torch.zeros(1))
    if config.faithful_init:
        bound = config.channels**-0.5
        nn.init.uniform_(weight, -bound, bound)
        nn.init.uniform_(bias, -bound, bound)
    return weight, bias


def reduce_position_map(weight: Tensor, bias: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """Return the part of the map that a softmax depends on: temperature and bias of each key, in float32 or wider."""
    with torch.autocast(weight.device.type, enabled=False):
        weight = widen(weight)
        code_width = 2 * math.ceil(len(weight) / 4)
        code = sinusoidal_positions(keys, code_width, weight)
        # The map's own bias is the same for all keys; it is added so that its gradient is zero rather than missing.
        of_keys = torch.mm(code[:, : len(weight) - code_width], weight[code_width:, None])[:, 0] + bias.to(weight)
        return weight.sum(), of_keys


def attend_with_key_bias(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    temperature: Tensor,
    key_bias: Tensor,
    *,
    scale: float,
    token_mask: Tensor | None = None,
) -> Tensor:
    """Return ``softmax_j(alpha s Q K^T + g(j)) V`` for each head, through the fused kernel.

    Args:
        queries: Queries (batch, heads, queries, head_dim).
        keys: Keys (batch, heads, keys, head_dim).
        values: Values (batch, heads, keys, head_dim).
        temperature: Temperature alpha.
        key_bias: Bias g of each key.
        scale: Scale s of the products.
        token_mask: True for real keys (default: all).
    """
    bias = key_bias.to(keys.dtype)[None, None, None]
    if torch.is_grad_enabled() and (keys.requires_grad or bias.requires_grad):
        scaled = queries * (temperature * scale).to(queries.dtype)
        return _attend_with_key_channel(scaled, keys, values, bias, token_mask)
    if token_mask is not None:
        bias = bias.masked_fill(~token_mask[:, None, None], float("-inf"))
    # One row of bias for all queries, in place of an n x n table.
    bias = bias.expand(queries.shape[0], queries.shape[1], queries.shape[2], -1)
    queries = queries * temperature.to(queries.dtype)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=scale)


def _attend_with_key_channel(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, token_mask: Tensor | None
) -> Tensor:
    """Return the heads with the bias as one more channel of the keys.

    A mask that requires a gradient would make PyTorch use its unfused kernel. Widths are padded with zeros to a
    multiple of eight, and values to the width of the keys, which the fused kernel requires to be equal.
    """
    head_dim = keys.shape[3]
    bias = bias.expand(keys.shape[0], keys.shape[1], 1, -1).transpose(2, 3)
    if token_mask is not None:
        bias = bias.masked_fill(~token_mask[:, None, :, None], FAR)
    padding = -(head_dim + 1) % 8
    queries = F.pad(torch.cat([queries, torch.ones_like(queries[..., :1])], dim=-1), (0, padding))
    wide_keys = F.pad(torch.cat([keys, bias.clamp(min=FAR)], dim=-1), (0, padding))
    wide_values = F.pad(values, (0, padding + 1))
    heads = F.scaled_dot_product_attention(queries, wide_keys, wide_values, scale=1.0)
    return heads[..., :head_dim]


def sinusoidal_positions(count: int, width: int, like: Tensor) -> Tensor:
    """Return ``[sin w0 p, cos w0 p, sin w1 p, ...]`` for p below ``count``, with ``w_t = 10000^(-2t/width)``."""
    positions = torch.arange(count, dtype=torch.float64, device=like.device)
    rates = torch.pow(10000.0, -torch.arange(0, width, 2, dtype=torch.float64, device=like.device) / width)
    angles = positions[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


def _attention_cost(n: int, c: int, num_heads: int) -> Cost:
    products = Cost(macs=2 * n * n * c, exponentials=num_heads * n * n, largest_intermediate=num_heads * n * n)
    return linear_cost(n, c, 2 * c) + products + linear_cost(n, c, c)
