"""Local self-attention in place of a convolution, between any two numbers of channels (arXiv 2209.15287).

After Ramachandran et al. (arXiv 1906.05909). Each pixel attends to the k x k window around it, and keys carry
embeddings of their row and column in the window::

    s_ij = t q . (k_ij + e_ij) ;  a = softmax over the window ;  out = concat_h(sum_ij a_ij v_ij)

q, k and v are 1x1 convolutions without bias, and nothing projects the output. In each head e is the row embedding in
the first half of the channels and the column embedding in the second. Pixels beyond the border are zeros that take part
in the softmax. As published ``t = 1``; here ``t = 1/sqrt(head_dim)``, without which the softmax starts out saturated.

q . e is evaluated as one further product, of ``k^2 C`` a pixel, and counted as such: adding e to the keys instead is no
multiply-accumulate in the published count, but a pass over all keys for each position of the window.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require
from gossamer.nn.attention.base import with_zero_gradient
from gossamer.nn.cost import Cost, linear_cost
from gossamer.nn.layers.block import require_whole_heads
from gossamer.nn.layers.traced_cost import Costed
from gossamer.nn.window import window_attention


class LocalAttention2d(Costed):
    """Softmax attention over the window around each pixel, from ``in_channels`` to ``out_channels``.

    A window of 1 has one weight, which is 1: the layer is its value projection and computes nothing else. Its other
    parameters are kept, since the published counts include them, and have a gradient of zero.

    Args:
        in_channels: Channels of the maps.
        out_channels: Channels of the result.
        window: Odd side k of the window in pixels.
        num_heads: Attention heads, of even width unless the window is 1.
        scale: Whether logits are divided by ``sqrt(head_dim)``; False is the published form.

    Raises:
        GossamerError: ``E-CONFIG``, for an even window, or heads that do not divide the channels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, window: int, num_heads: int = 1, scale: bool = True
    ) -> None:
        super().__init__()
        require(window >= 1 and window % 2 == 1, "window", f"{window} is not odd", "use 3, 5 or 7")
        require(num_heads >= 1, "num_heads", f"{num_heads} is less than 1", "use 1 or more")
        require_whole_heads(out_channels, num_heads)
        head_dim = out_channels // num_heads
        problem = f"{head_dim} channels of a head cannot be halved for rows and columns"
        require(window == 1 or head_dim % 2 == 0, "num_heads", problem, "choose heads of even width")
        self.out_channels = out_channels
        self.window = window
        self.num_heads = num_heads
        self.scale = head_dim**-0.5 if scale else 1.0
        self.qkv = nn.Linear(in_channels, 3 * out_channels, bias=False)
        # The first half of the last axis is the embedding of the row, the second half that of the column.
        self.embedding = nn.Parameter(torch.randn(num_heads, window, head_dim))
        # As published: Kaiming initialization for a ReLU, by the outputs of each of the three projections.
        nn.init.normal_(self.qkv.weight, std=(2 / out_channels) ** 0.5)

    def forward(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch out_channels rows columns"]:
        """Return the attended maps, in time and memory linear in their pixels."""
        pixels = maps.permute(0, 2, 3, 1)
        widths = [self.out_channels, 2 * self.out_channels]
        query_weight, key_value_weight = self.qkv.weight.split(widths)
        if self.window == 1:
            values = F.linear(pixels, key_value_weight[self.out_channels :]).permute(0, 3, 1, 2)
            return with_zero_gradient(values, self.embedding)
        side = self.window // 2
        queries = F.linear(pixels, query_weight * self.scale).unflatten(3, (self.num_heads, -1))
        both = F.linear(pixels, key_value_weight).unflatten(3, (2, self.num_heads, -1))
        # There is no bias, so that padding after the projection is padding before it, with less work.
        keys, values = F.pad(both, (0, 0, 0, 0, 0, 0, side, side, side, side)).unbind(3)
        del both
        relative = self._window_embedding().to(queries.dtype)
        return window_attention(queries, keys, values, relative, self.window, 1).flatten(3).permute(0, 3, 1, 2)

    def traced_cost(self, inputs: tuple[Any, ...], output: Any) -> Cost:
        """Return three projections, and keys, embeddings and values of ``k^2 C`` a pixel; for k = 1 the values' alone.

        The published count has ``2 k^2 C`` a pixel for the window, without the embeddings.
        """
        pixels = output.shape[0] * output.shape[2] * output.shape[3]
        if self.window == 1:
            return linear_cost(pixels, self.qkv.in_features, self.out_channels)
        places = pixels * self.window**2
        weights = places * self.num_heads
        products = Cost(macs=3 * places * self.out_channels, exponentials=weights, largest_intermediate=weights)
        return linear_cost(pixels, self.qkv.in_features, 3 * self.out_channels) + products

    def _window_embedding(self) -> Tensor:
        """Return the embedding (heads, window * window, head_dim) of each position of a window."""
        rows, columns = self.embedding.chunk(2, dim=-1)
        rows = rows[:, :, None].expand(-1, -1, self.window, -1)
        columns = columns[:, None].expand(-1, self.window, -1, -1)
        return torch.cat([rows, columns], dim=-1).flatten(1, 2)
