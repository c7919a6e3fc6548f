"""Stand-alone self-attention in a k x k neighbourhood (Ramachandran et al., arXiv 1906.05909; arXiv 2209.15287).

Each position attends to the window around it; keys have embeddings of their row and column in the window::

    s_ij = t q . (k_ij + e_ij) ;  A = softmax over the window ;  out = concat_h(sum_ij A_ij v_ij) W_O + b_O

with ``t = 1/sqrt(d)`` and, in each head, e the row embedding in the first half of the channels and the column embedding
in the second. Positions beyond the border are zeros that take part in the softmax, as published, unless
``mask_padding``. The published code mixes pixels by a wrong reshape and does not scale; this is the intended method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.checks import require
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention.base import FAR, Attention, AttentionConfig, Grid, Host, MechanismNote, refuse_mask
from gossamer.nn.cost import Cost, linear_cost
from gossamer.nn.window import window_attention


@dataclass(frozen=True)
class LocalConfig(AttentionConfig):
    """Parameters of local attention.

    Attributes:
        window: Side of the neighbourhood, an odd number.
        scale: Whether logits are divided by ``sqrt(head_dim)``; False, as published, saturates the softmax from the
            start.
        mask_padding: Whether positions beyond the border are excluded from the softmax.

    Raises:
        GossamerError: ``E-CONFIG`` for an even window.
    """

    window: int = 7
    scale: bool = True
    mask_padding: bool = False
    name: ClassVar[str] = "local"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Ramachandran et al., arXiv 1906.05909; arXiv 2209.15287",
        equation="softmax over the k × k window of (q · (k + e)) V, e of row and column; k = 7",
        cost="4 N C² + 3 k² N C",
        use=(
            "When neighbours matter most and maps are large: its cost is linear, and weights can be drawn on the "
            "image. A 3 × 3 convolution is still several times faster."
        ),
        departures=(
            "The published code mixes pixels by a reshape, has no 1/√d and gives the first heads rows only; this is "
            "the method as it is described. See [decision 8](decisions/0008-window-attention.md)."
        ),
    )

    def __post_init__(self) -> None:
        odd = self.window >= 1 and self.window % 2 == 1
        require(odd, "window", f"{self.window} is not a positive odd number", "use 3, 5 or 7")

    def make(self, host: Host) -> LocalAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return LocalAttention(self, host)


class LocalAttention(Attention):
    """Softmax attention over the window around each position."""

    def __init__(self, config: LocalConfig, host: Host) -> None:
        super().__init__(host)
        if host.num_prefix_tokens:
            problem = f"{host.num_prefix_tokens} prefix tokens have no neighbours"
            raise GossamerError(ErrorCode.UNSUPPORTED, "local", problem, 'use pooling="mean"')
        if len(host.grid) != 2:
            problem = f"neighbourhoods need a grid of 2 axes, not {len(host.grid)}"
            raise GossamerError(ErrorCode.UNSUPPORTED, "local", problem, "use images")
        if self.head_dim % 2:
            problem = f"a head of {self.head_dim} channels cannot be halved for rows and columns"
            raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, "choose heads of even width")
        self.config = config
        self.qkv = nn.Linear(host.dim, 3 * host.dim, bias=host.qkv_bias)
        self.row = nn.Parameter(torch.randn(self.num_heads, config.window, self.head_dim // 2))
        self.column = nn.Parameter(torch.randn(self.num_heads, config.window, self.head_dim // 2))

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, in time and memory linear in their number.

        Raises:
            GossamerError: ``E-UNSUPPORTED`` for a mask, since a window would include padded neighbours.
        """
        queries, both = self._projected(tokens, grid, token_mask)
        side = self.config.window // 2
        keys, values = F.pad(both, (0, 0, 0, 0, 0, 0, side, side, side, side)).unbind(3)
        del both
        relative = self._relative().to(queries.dtype)
        if self.config.mask_padding:
            # One more channel, which is far for what lies beyond the border.
            queries, relative = F.pad(queries, (0, 1), value=1.0), F.pad(relative, (0, 1))
            keys = torch.cat([keys, self._beyond(grid, keys)], dim=-1)
        heads = window_attention(queries, keys, values, relative, self.config.window, 1)
        del queries, keys, values
        return self.dropout(self.output(heads.flatten(3).flatten(1, 2)))

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the matrix with one window in each row, and V; weights of positions beyond the border are dropped."""
        queries, both = self._projected(tokens, grid, token_mask)
        queries, keys, values = (part.flatten(1, 2).transpose(1, 2) for part in (queries, *both.unbind(3)))
        window, (rows, columns) = self.config.window, grid
        places = [torch.arange(side, device=tokens.device) for side in grid]
        row, column = torch.cartesian_prod(*places).unbind(-1)
        offsets = torch.arange(window, device=tokens.device) - window // 2
        down, across = torch.cartesian_prod(offsets, offsets).unbind(-1)
        at_row, at_column = row[:, None] + down, column[:, None] + across
        inside = (at_row >= 0) & (at_row < rows) & (at_column >= 0) & (at_column < columns)
        index = at_row.clamp(0, rows - 1) * columns + at_column.clamp(0, columns - 1)
        scores = (queries @ keys.transpose(-2, -1)).gather(-1, index.expand(*queries.shape[:2], -1, -1))
        logits = scores.masked_fill(~inside, 0.0) + queries @ self._relative().to(queries.dtype).transpose(1, 2)
        if self.config.mask_padding:
            logits = logits.masked_fill(~inside, float("-inf"))
        weights = torch.softmax(logits, dim=-1).masked_fill(~inside, 0.0)
        matrix = torch.zeros(*queries.shape[:3], rows * columns, dtype=weights.dtype, device=weights.device)
        return matrix.scatter_add(-1, index.expand_as(weights), weights), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of four projections of ``N C^2``, and of keys, embeddings and values of ``k^2 N C`` each."""
        n, c, k2 = self.num_tokens(grid), self.dim, self.config.window**2
        heads = self.num_heads
        extra = 2 * heads if self.config.mask_padding else 0
        products = Cost(macs=n * k2 * (3 * c + extra), exponentials=heads * n * k2, largest_intermediate=heads * n * k2)
        return linear_cost(n, c, 3 * c) + products + linear_cost(n, c, c)

    def _projected(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return scaled queries (batch, rows, columns, heads, head_dim), and keys and values with one more axis."""
        self.check_grid(tokens, grid)
        refuse_mask("local", token_mask)
        scale = self.head_dim**-0.5 if self.config.scale else 1.0
        widths = [self.dim, 2 * self.dim]
        weights = self.qkv.weight.split(widths)
        biases = (None, None) if self.qkv.bias is None else self.qkv.bias.split(widths)
        # The scale is applied to the small weights. Separate from keys and values, queries are not kept during padding.
        queries = F.linear(tokens, weights[0] * scale, None if biases[0] is None else biases[0] * scale)
        both = F.linear(tokens, weights[1], biases[1])
        queries = queries.unflatten(2, (self.num_heads, -1)).unflatten(1, grid)
        return queries, both.unflatten(2, (2, self.num_heads, -1)).unflatten(1, grid)

    def _relative(self) -> Tensor:
        """Return the embedding (heads, window * window, head_dim) of each place of a window."""
        window = self.config.window
        rows = self.row[:, :, None].expand(-1, -1, window, -1)
        columns = self.column[:, None].expand(-1, window, -1, -1)
        return torch.cat([rows, columns], dim=-1).flatten(1, 2)

    def _beyond(self, grid: Grid, padded: Tensor) -> Tensor:
        """Return a channel that is ``FAR`` at positions beyond the border, and zero inside."""
        side = self.config.window // 2
        inside = torch.zeros(1, *grid, 1, 1, dtype=padded.dtype, device=padded.device)
        channel = F.pad(inside, (0, 0, 0, 0, side, side, side, side), value=FAR)
        return channel.expand(padded.shape[0], -1, -1, padded.shape[3], -1)
