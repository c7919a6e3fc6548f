"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) with any attention mechanism.

Pre-norm blocks, exact GELU, LayerNorm eps 1e-6, learned positions. The readout is a class token, or the mean of the
tokens after the final LayerNorm. A mean directly behind an attention layer would see nothing of sequence
normalization: with its initial affine parameters, the mean of its output over the tokens is zero.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require_at_least
from gossamer.nn.cost import Cost, linear_cost
from gossamer.nn.layers.block import NORM_EPS
from gossamer.nn.layers.encoder import EncoderConfig, build_blocks, prepend_class_token, run_blocks
from gossamer.nn.layers.initialization import initialize_transformer
from gossamer.nn.layers.patch_embed import PatchEmbed
from gossamer.nn.layers.position import LearnedPosition
from gossamer.nn.models.base import AttentionNetwork, InputRequirements, NetworkConfig


@dataclass(frozen=True, kw_only=True)
class ViTConfig(EncoderConfig, NetworkConfig):
    """Parameters of a Vision Transformer, with those of ``EncoderConfig``.

    Attributes:
        dim: Width of a token.
        num_heads: Attention heads of a block; divides ``dim``.
        patch_size: Side of a patch in pixels; divides both sides of an image.
        stem: ``patch``, as published, or ``convolutional``, which learns from fewer images.
        pooling: ``class_token``, or ``mean`` of the tokens after the final LayerNorm.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    dim: int = 192
    num_heads: int = 3
    patch_size: int = 16
    stem: Literal["patch", "convolutional"] = "patch"
    pooling: Literal["class_token", "mean"] = "class_token"
    name: ClassVar[str] = "vit"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=self.patch_size)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "patch_size")
        EncoderConfig.__post_init__(self)
        NetworkConfig.__post_init__(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    def with_supported_readout(self) -> ViTConfig:
        """Return the config with the mean as readout where the attention takes no class token."""
        if self.pooling != "class_token" or self.takes_class_token(self.grid):
            return self
        return dataclasses.replace(self, pooling="mean")

    def build(self) -> ViT:
        """Return the network with fresh weights."""
        return ViT(self)


class ViT(AttentionNetwork):
    """Images to patches to tokens, through blocks, to the logits of a linear classifier."""

    config: ViTConfig

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        prefix = int(config.pooling == "class_token")
        self.patch_embed = PatchEmbed(config.stem, config.patch_size, config.in_channels, config.dim)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.dim)) if prefix else None
        self.position = LearnedPosition(config.grid, prefix, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = build_blocks(config, config.grid, prefix, attention_dropout=config.dropout)
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.classifier = nn.Linear(config.dim, config.num_classes)
        self.apply(initialize_transformer)

    def compute_logits(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits; losses of the attention are appended to ``losses``."""
        self.check_images(images)
        tokens, grid = self.patch_embed(images)
        tokens = self.dropout(self.position(prepend_class_token(self.class_token, tokens), grid))
        tokens = run_blocks(self.blocks, tokens, grid, losses)
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

SMALL = {
    "vit": ViTConfig(dim=16, depth=2, num_heads=2, patch_size=4),
}
