"""APFormer's encoder (Lin et al., arXiv 2206.14413) as a classifier; Gossamer's own, no published one exists.

::

    x1..x4 = double convolutions, pooled between ;  tokens = embed(x4), at 1/8 of the side
    tokens = x + attention(norm(x)), then + feed_forward(norm(x))             Gaussian positions and gate in attention
    logits = W mean(norm(tokens)) + b ;  loss = task + 0.1 prior + 0.1 (kept - budget)^2

Without masks there is no foreground to learn, so there is no head that finds background, and no query is pruned. Only
weak dependencies are, which masks entries of attention and saves no work by itself. Training has two stages, as in
APFormer: at first every dependency is kept, then the gate opens. Names of parameters are those of ``apformer``, so that
the encoder of one fits the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.attention import AdaptiveConfig
from gossamer.nn.layers.convolution_pyramid import ConvolutionPyramid
from gossamer.nn.layers.encoder import run_blocks
from gossamer.nn.layers.initialization import initialize_transformer
from gossamer.nn.layers.position import LearnedPosition
from gossamer.nn.models.apformer import NORM_EPS, APFormerEncoderConfig, gate_dependencies
from gossamer.nn.models.base import AttentionNetwork


@dataclass(frozen=True, kw_only=True)
class APFormerClassifierConfig(APFormerEncoderConfig):
    """Parameters of the APFormer classifier: those of its convolutions and blocks.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    name: ClassVar[str] = "apformer_classifier"

    def build(self) -> APFormerClassifier:
        """Return the network with fresh weights."""
        return APFormerClassifier(self)


class APFormerClassifier(AttentionNetwork):
    """Convolutional encoder, transformer at 1/8, linear classifier of the mean of the tokens."""

    config: APFormerClassifierConfig

    def __init__(self, config: APFormerClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConvolutionPyramid(config.in_channels, config.widths, config.norm)
        self.embed = nn.Linear(config.widths[-1], config.dim)
        self.position = LearnedPosition(config.grid, 0, config.dim) if config.position == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = config.build_blocks()
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.classifier = nn.Linear(config.dim, config.num_classes)
        self.apply(initialize_transformer)

    def begin_epoch(self, progress: float) -> bool:
        """Start pruning at ``warmup_share`` of training; return whether the network prunes as in inference."""
        pruning = not self.config.prunes or progress >= self.config.warmup_share
        gate_dependencies(self.blocks, pruning)
        return pruning

    def compute_logits(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits; losses of the attention are appended to ``losses``."""
        self.check_images(images)
        plane = self.encoder(images)[-1]
        grid = (plane.shape[2], plane.shape[3])
        tokens = self.embed(plane.flatten(2).transpose(1, 2))
        tokens = self.dropout(tokens if self.position is None else self.position(tokens, grid))
        tokens = run_blocks(self.blocks, tokens, grid, losses)
        return self.classifier(self.norm(tokens).mean(dim=1))


# The small one keeps the published BatchNorm: with group normalization, a mean over tokens learns far more slowly.
PRESETS = {
    "apformer_classifier": APFormerClassifierConfig(),
    "apformer_classifier_small": APFormerClassifierConfig(
        image_size=(64, 64), num_heads=4, attention=AdaptiveConfig(head_dim=32)
    ),
}

SMALL = {
    "apformer_classifier": APFormerClassifierConfig(width=4, dim=16, depth=2, num_heads=2, norm="group", dropout=0.0),
}
