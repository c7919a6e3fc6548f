"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) with any attention mechanism.

Pre-norm blocks, exact GELU, LayerNorm eps 1e-6, learned positions. The readout is a class token, or the mean of the
tokens after the final LayerNorm. A mean taken right behind an attention layer would see nothing of sequence
normalization: with its initial affine the token mean of its output is zero.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import AttentionConfig, SoftmaxConfig
from gossamer.nn.cost import Cost, linear_cost
from gossamer.nn.layers.block import NORM_EPS, Block
from gossamer.nn.layers.patch_embed import PatchEmbed, check_image_size
from gossamer.nn.layers.position import LearnedPosition
from gossamer.nn.models.base import Network, NetworkConfig, TrainingOutput, mean_penalty


@dataclass(frozen=True, kw_only=True)
class ViTConfig(NetworkConfig):
    """Parameters of a Vision Transformer.

    Attributes:
        patch_size: side of a patch in pixels; divides both sides of an image.
        stem: ``patch``, as published, or ``convolutional``, which learns from fewer images.
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads of a block.
        mlp_ratio: hidden width of the feed-forward network over ``dim``.
        attention: the mechanism.
        pooling: ``class_token``, or ``mean`` of the tokens after the final LayerNorm.
        dropout: probability after the positions, the attention and the feed-forward network.
        drop_path: probability of stochastic depth in the last block; it rises linearly from 0 in the first.
        layer_scale: initial value of a learned scale of both branches of a block; None, as published, for no scale.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
    """

    patch_size: int = 16
    stem: Literal["patch", "convolutional"] = "patch"
    dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float = 4.0
    attention: AttentionConfig = field(default_factory=SoftmaxConfig)
    pooling: Literal["class_token", "mean"] = "class_token"
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    name: ClassVar[str] = "vit"

    def __post_init__(self) -> None:
        for key in ("in_channels", "num_classes", "patch_size", "dim", "depth", "num_heads"):
            if getattr(self, key) < 1:
                raise GossamerError(
                    ErrorCode.CONFIG, key, f"{getattr(self, key)} is less than 1", "use a positive number"
                )
        for key in ("dropout", "drop_path"):
            if not 0 <= getattr(self, key) < 1:
                raise GossamerError(
                    ErrorCode.CONFIG, key, f"{getattr(self, key)} is not in [0, 1)", "use a probability"
                )
        check_image_size(self.image_size, self.patch_size)
        if self.dim % self.num_heads:
            problem = f"{self.num_heads} heads do not divide a width of {self.dim}"
            raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, "choose a divisor of dim")

    @property
    def multiple(self) -> int:  # type: ignore[override]
        """Side of a patch."""
        return self.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    def fitted(self) -> ViTConfig:
        """Return the config with the mean as readout where the attention takes no class token."""
        if self.pooling != "class_token":
            return self
        try:
            with torch.device("meta"):
                self.attention.build(self.dim, self.num_heads, grid=self.grid, num_prefix_tokens=1)
        except GossamerError as error:
            if error.code is not ErrorCode.UNSUPPORTED:
                raise
            return dataclasses.replace(self, pooling="mean")
        return self

    def build(self) -> ViT:
        """Return the network with fresh weights."""
        return ViT(self)


class ViT(Network):
    """Images to patches to tokens, through blocks, to the logits of a linear classifier."""

    config: ViTConfig

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        prefix = 1 if config.pooling == "class_token" else 0
        self.patch_embed = PatchEmbed(config.stem, config.patch_size, config.in_channels, config.dim)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.dim)) if prefix else None
        self.position = LearnedPosition(config.grid, prefix, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(
                config.attention.build(
                    config.dim,
                    config.num_heads,
                    grid=config.grid,
                    num_prefix_tokens=prefix,
                    dropout=config.dropout,
                ),
                config.mlp_ratio,
                config.dropout,
                config.drop_path * index / max(1, config.depth - 1),
                config.layer_scale,
            )
            for index in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.classifier = nn.Linear(config.dim, config.num_classes)
        self.apply(_initialize)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        return self._logits(images, None)

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits, and the mean over blocks of the loss that the attention adds, if it adds one."""
        losses: list[Tensor] = []
        logits = self._logits(images, losses)
        return TrainingOutput(logits, penalty=mean_penalty(losses))

    def _logits(self, images: Tensor, losses: list[Tensor] | None) -> Tensor:
        tokens, grid = self.patch_embed(images)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.dropout(self.position(tokens, grid))
        for block in self.blocks:
            tokens = block(tokens, grid, losses=losses)
        tokens = self.norm(tokens)
        return self.classifier(tokens.mean(dim=1) if self.class_token is None else tokens[:, 0])

    def cost(self, image_size: tuple[int, int] | None = None) -> Cost:
        """Return the closed form of what one image costs."""
        size = image_size or self.config.image_size
        grid = (size[0] // self.config.patch_size, size[1] // self.config.patch_size)
        total = self.patch_embed.cost(size)
        for block in self.blocks:
            total += block.cost(grid)  # type: ignore[operator]
        return total + linear_cost(1, self.config.dim, self.config.num_classes)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


_SIZES = {
    "vit_nano": ViTConfig(dim=128, depth=6, num_heads=4),
    "vit_tiny": ViTConfig(dim=192, depth=12, num_heads=3),
    "vit_small": ViTConfig(dim=384, depth=12, num_heads=6),
    "vit_base": ViTConfig(dim=768, depth=12, num_heads=12),
}

# The plain names have the published patch stem; *_conv have the convolutional one.
PRESETS = {
    **_SIZES,
    **{f"{name}_conv": dataclasses.replace(preset, stem="convolutional") for name, preset in _SIZES.items()},
}
