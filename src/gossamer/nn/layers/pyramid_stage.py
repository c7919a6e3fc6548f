"""A stage of a pyramid: a map is embedded at a lower resolution, and its tokens go through blocks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.layers.encoder import prepend_class_token, run_blocks


class PyramidStage(nn.Module):
    """Convolutions that lower the resolution, and transformer blocks on the tokens of the result.

    Args:
        embed: Convolutions from the map before to the map of this stage.
        blocks: Transformer blocks, called as ``Block`` is.
        norm: Normalization of the tokens before the class token joins them; None for none.
        position: Positions that are added to the tokens, class token included; None for none.
        class_token_dim: Width of a learned token that joins those of the grid; None for none.
    """

    def __init__(
        self,
        embed: nn.Module,
        blocks: nn.ModuleList,
        *,
        norm: nn.Module | None = None,
        position: nn.Module | None = None,
        class_token_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.norm = norm
        self.class_token = None if class_token_dim is None else nn.Parameter(torch.empty(1, 1, class_token_dim))
        self.position = position
        self.blocks = blocks

    def forward(
        self, plane: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None = None
    ) -> tuple[Float[Tensor, "batch tokens dim"], tuple[int, int]]:
        """Return the tokens, a class token in front if there is one, and their grid.

        Args:
            plane: Map of the stage before, or images.
            losses: List that the losses of the attention are appended to; None to compute none.
        """
        plane = self.embed(plane)
        grid = (plane.shape[2], plane.shape[3])
        tokens = plane.flatten(2).transpose(1, 2)
        if self.norm is not None:
            tokens = self.norm(tokens)
        tokens = prepend_class_token(self.class_token, tokens)
        if self.position is not None:
            tokens = self.position(tokens, grid)
        return run_blocks(self.blocks, tokens, grid, losses), grid
