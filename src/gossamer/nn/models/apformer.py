"""APFormer, the adaptive pruning transformer (Lin et al., arXiv 2206.14413, IEEE TMI 2023).

A small U-shaped convolutional network with a transformer at 1/8 of the side::

    x1..x4 = double convolutions, pooled between ;  p = softmax(head(x4)) ;  query i is kept  <=>  p_i(background) < 0.9
    tokens = x + attention(norm(x)), then + feed_forward(norm(x))             no absolute positions, no final norm
    logits = double convolutions of (enlarged, skip), three times ;  loss = 0.8 task + 0.1 prior + 0.1 head

The head learns from its own loss alone. Training has two stages: at first the head and the prior learn while nothing is
pruned, then queries and weak dependencies are pruned. ``docs/decisions/0010-adaptive.md`` lists the differences from
the authors' code. Pruning needs adaptive attention; with any other mechanism there is no head.
``apformer_classifier`` has the same convolutions and blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.checks import require, require_fraction, require_positive
from gossamer.nn.attention import AdaptiveConfig, AttentionConfig
from gossamer.nn.attention.adaptive import AdaptiveAttention
from gossamer.nn.layers.block import Block
from gossamer.nn.layers.convolution import Norm, upsample_features
from gossamer.nn.layers.convolution_pyramid import ConvolutionPyramid, build_double_convolution
from gossamer.nn.layers.encoder import run_blocks
from gossamer.nn.layers.initialization import initialize_transformer
from gossamer.nn.layers.position import LearnedPosition
from gossamer.nn.models.base import (
    AuxiliaryHead,
    InputRequirements,
    NetworkConfig,
    Segmenter,
    SegmenterConfig,
    TrainingOutput,
    mean_penalty,
)
from gossamer.nn.precision import widen

NORM_EPS = 1e-5
TASK_WEIGHT, HEAD_WEIGHT = 0.8, 0.1
"""Weights of the losses; that of the prior is ``AdaptiveConfig.prior_weight``, also 0.1."""
PUBLISHED_HEADS = 6
STRIDE = 8


@dataclass(frozen=True, kw_only=True)
class APFormerEncoderConfig(NetworkConfig):
    """Fields of convolutions and blocks, which the segmentation network and the classifier share.

    Attributes:
        width: Channels at the full side; twice, four and eight times as many at 1/2, 1/4 and 1/8.
        dim: Width of a token.
        depth: Number of blocks.
        num_heads: Attention heads of a block. None for 6, as published, where the heads have a width of their own, and
            otherwise for the largest divisor of ``dim`` up to 6.
        mlp_ratio: Hidden width of the feed-forward network divided by ``dim``.
        attention: Attention mechanism; the published heads are 128 wide.
        warmup_share: Share of training before pruning begins, in [0, 1).
        position: ``none``, as published, or ``learned`` absolute positions, as in a plain ViT.
        norm: Normalization of the convolutions: ``batch``, as published, or ``group``.
        dropout: Dropout probability after the embedding of tokens, and inside and after the feed-forward network, in
            [0, 1).

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    width: int = 16
    dim: int = 128
    depth: int = 4
    num_heads: int | None = None
    mlp_ratio: float = 4.0
    attention: AttentionConfig = field(default_factory=lambda: AdaptiveConfig(head_dim=128))
    warmup_share: float = 0.3
    position: Literal["none", "learned"] = "none"
    norm: Norm = "batch"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "width", "dim", "depth", "mlp_ratio")
        require_fraction(self, "warmup_share", "dropout")
        heads = self.num_heads
        divides = heads is None or self.attention.own_head_dim is not None or self.dim % max(1, heads) == 0
        remedy = "choose a divisor of dim, omit num_heads, or give adaptive attention a head_dim"
        require(divides, "num_heads", f"{heads} heads do not divide a width of {self.dim}", remedy)

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels at the full side, 1/2, 1/4 and 1/8."""
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens; a side that is not a multiple of 8 is rounded up."""
        return -(-self.image_size[0] // STRIDE), -(-self.image_size[1] // STRIDE)

    @property
    def heads(self) -> int:
        """Number of attention heads, also where ``num_heads`` is None."""
        if self.num_heads is not None:
            return self.num_heads
        if self.attention.own_head_dim is not None:
            return PUBLISHED_HEADS
        return max(heads for heads in range(1, PUBLISHED_HEADS + 1) if self.dim % heads == 0)

    @property
    def prunes(self) -> bool:
        """Whether anything is pruned, so that training has two stages."""
        return isinstance(self.attention, AdaptiveConfig) and self.attention.gate != "none"

    def build_blocks(self) -> nn.ModuleList:
        """Return the blocks with fresh weights."""
        return nn.ModuleList(
            Block(
                self.attention.build(self.dim, self.heads, grid=self.grid, qkv_bias=False),
                self.mlp_ratio,
                self.dropout,
                activation=lambda: nn.Sequential(nn.ReLU(), nn.Dropout(self.dropout)),
                norm_eps=NORM_EPS,
            )
            for _ in range(self.depth)
        )


@dataclass(frozen=True, kw_only=True)
class APFormerConfig(SegmenterConfig, APFormerEncoderConfig):
    """Parameters of APFormer.

    Attributes:
        query_threshold: Probability of background, in (0, 1], from which the query of a token is pruned; None for no
            head.
        attention: Attention mechanism, as in ``APFormerEncoderConfig``.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    query_threshold: float | None = 0.9
    # Repeated, since the fields of SegmenterConfig, which has no attention, take precedence.
    attention: AttentionConfig = field(default_factory=lambda: AdaptiveConfig(head_dim=128))
    name: ClassVar[str] = "apformer"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=STRIDE)

    def __post_init__(self) -> None:
        super().__post_init__()
        threshold = self.query_threshold
        within = threshold is None or 0 < threshold <= 1
        require(within, "query_threshold", f"{threshold} is not in (0, 1]", "use a probability, such as 0.9")

    @property
    def prunes_queries(self) -> bool:
        """Whether a head finds tokens of the background, and attention prunes their queries."""
        return isinstance(self.attention, AdaptiveConfig) and self.query_threshold is not None

    @property
    def prunes(self) -> bool:
        """Whether anything is pruned, so that training has two stages."""
        return super().prunes or self.prunes_queries

    def build(self) -> APFormer:
        """Return the network with fresh weights."""
        return APFormer(self)


class APFormer(Segmenter):
    """Convolutional encoder, transformer at 1/8, convolutional decoder.

    ``pruning`` is whether queries and dependencies are pruned: always, except in the first stage of training.
    """

    config: APFormerConfig

    def __init__(self, config: APFormerConfig) -> None:
        super().__init__()
        self.config = config
        widths, norm, dim = config.widths, config.norm, config.dim
        self.encoder = ConvolutionPyramid(config.in_channels, widths, norm)
        self.foreground_head = nn.Conv2d(widths[-1], 2, 1) if config.prunes_queries else None
        self.embed = nn.Linear(widths[-1], dim)
        self.position = LearnedPosition(config.grid, 0, dim) if config.position == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = config.build_blocks()
        self.narrow = nn.Conv2d(dim, widths[2], 1, bias=False)
        # The map from below has as many channels as the skip that it joins; the last block keeps its width.
        self.decoder = nn.ModuleList(
            build_double_convolution(2 * skip, skip, after, norm)
            for skip, after in ((widths[2], widths[1]), (widths[1], widths[0]), (widths[0], widths[0]))
        )
        self.classifier = nn.Conv2d(widths[0], config.num_classes, 1)
        self.apply(initialize_transformer)
        self.pruning = True

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        return self._logits(images, None)[0]

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits, those of the head that prunes queries, and the mean over blocks of prior and budget."""
        losses: list[Tensor] = []
        logits, scores = self._logits(images, losses)
        heads = () if scores is None else (AuxiliaryHead(scores, HEAD_WEIGHT, "foreground", "task"),)
        weight = TASK_WEIGHT if isinstance(self.config.attention, AdaptiveConfig) else 1.0
        return TrainingOutput(logits, heads, mean_penalty(losses), weight)

    def begin_epoch(self, progress: float) -> bool:
        """Start pruning at ``warmup_share`` of training; return whether the network prunes as in inference."""
        self.pruning = not self.config.prunes or progress >= self.config.warmup_share
        gate_dependencies(self.blocks, self.pruning)
        return self.pruning

    @contextmanager
    def keep_all_tokens(self) -> Iterator[None]:
        """Prune no query inside of this context; dependencies are pruned as before, which saves no work."""
        pruning, self.pruning = self.pruning, False
        try:
            yield
        finally:
            self.pruning = pruning

    @torch.no_grad()
    def pruned_fraction(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch"]:
        """Return the share of query tokens that is pruned from each image in evaluation; 0 where none is."""
        was_training = self.training
        self.eval()
        try:
            kept = self._kept_queries(self._scores(self._encode(images)[-1]))
        finally:
            self.train(was_training)
        return images.new_zeros(len(images)) if kept is None else (~kept).to(images.dtype).mean(dim=1)

    def _logits(self, images: Tensor, losses: list[Tensor] | None) -> tuple[Tensor, Tensor | None]:
        """Return the logits of the task and those of the head."""
        *skips, plane = self._encode(images)
        scores = self._scores(plane)
        kept = self._kept_queries(scores)
        grid = (plane.shape[2], plane.shape[3])
        tokens = self.embed(plane.flatten(2).transpose(1, 2))
        tokens = self.dropout(tokens if self.position is None else self.position(tokens, grid))
        pruned = {} if kept is None else {"kept_queries": kept}
        tokens = run_blocks(self.blocks, tokens, grid, losses, **pruned)
        plane = self.narrow(tokens.transpose(1, 2).unflatten(2, grid))
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            plane = block(torch.cat([skip, upsample_features(plane, 2, align_corners=True)], dim=1))
        return self.classifier(plane), scores

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Return the maps at the full side, 1/2, 1/4 and 1/8."""
        self.check_images(images)
        return self.encoder(images)

    def _scores(self, plane: Tensor) -> Tensor | None:
        """Return the logits of background and foreground for each token."""
        return None if self.foreground_head is None else self.foreground_head(plane)

    def _kept_queries(self, scores: Tensor | None) -> Bool[Tensor, "batch tokens"] | None:
        """Return which query tokens are kept, or None where all are."""
        threshold = self.config.query_threshold
        if scores is None or threshold is None or not self.pruning:
            return None
        return (torch.softmax(widen(scores), dim=1)[:, 0] < threshold).flatten(1)


def gate_dependencies(blocks: nn.ModuleList, pruning: bool) -> None:
    """Make adaptive attention prune weak dependencies, or keep all; without effect where it has no gate."""
    for block in blocks:
        attention = block.attention
        if isinstance(attention, AdaptiveAttention):
            attention.pruning = pruning and attention.config.gate != "none"


PRESETS = {
    "apformer": APFormerConfig(),
    "apformer_small": APFormerConfig(
        image_size=(64, 64), dim=96, depth=3, num_heads=3, attention=AdaptiveConfig(head_dim=32), norm="group"
    ),
}

SMALL = {
    "apformer": dataclasses.replace(PRESETS["apformer_small"], depth=2),
}
