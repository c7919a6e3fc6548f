"""APFormer, the adaptive pruning transformer (Lin et al., arXiv 2206.14413, IEEE TMI 2023).

A small U-shaped convolutional network with a transformer at 1/8 of the side::

    x1..x4 = double convolutions, pooled between ;  p = softmax(head(x4)) ;  query i asks  <=>  p_i(background) < 0.9
    tokens = x + attention(norm(x)), then + feed_forward(norm(x))             no absolute positions, no final norm
    logits = double convolutions of (enlarged, skip), three times ;  loss = 0.8 task + 0.1 prior + 0.1 head

The head learns from its own loss alone. Training has two stages: first the head and the prior learn while nothing is
pruned, then queries and weak dependencies are. What differs from the authors' code is in
``docs/decisions/0010-adaptive.md``. Pruning needs adaptive attention; with any other mechanism there is no head.
``apformer_classifier`` has the same convolutions and blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import AdaptiveConfig, AttentionConfig
from gossamer.nn.attention.adaptive import AdaptiveAttention
from gossamer.nn.layers.block import Block
from gossamer.nn.layers.convolution import Norm, upsample_features
from gossamer.nn.layers.convolution_pyramid import ConvolutionPyramid, double_convolution
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
"""Of the losses; that of the prior is ``AdaptiveConfig.prior_weight``, 0.1 too."""
PUBLISHED_HEADS = 6
STRIDE = 8


@dataclass(frozen=True, kw_only=True)
class APFormerEncoderConfig(NetworkConfig):
    """The fields of convolutions and blocks, which the segmentation network and the classifier share.

    Attributes:
        width: channels at the full side; twice, four and eight times as many at 1/2, 1/4 and 1/8.
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads of a block. Left out, 6 as published where the heads have a width of their own, and
            otherwise the largest divisor of ``dim`` up to 6.
        mlp_ratio: hidden width of the feed-forward network over ``dim``.
        attention: the mechanism; the published heads are 128 wide.
        warmup_share: share of training before pruning begins.
        position: ``none``, as published, or ``learned`` absolute positions, as in a plain ViT.
        norm: of the convolutions: ``batch``, as published, or ``group``.
        dropout: probability after the embedding of tokens, and inside and after the feed-forward network.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
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
        for key in ("width", "dim", "depth", "mlp_ratio"):
            if getattr(self, key) <= 0:
                problem = f"{getattr(self, key)} is not positive"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a positive number")
        for key in ("warmup_share", "dropout"):
            if not 0 <= getattr(self, key) < 1:
                problem = f"{getattr(self, key)} is not in [0, 1)"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a fraction below 1")
        if self.num_heads is not None and self.attention.own_head_dim is None and self.dim % max(1, self.num_heads):
            problem = f"{self.num_heads} heads do not divide a width of {self.dim}"
            remedy = "choose a divisor of dim, leave it out, or give adaptive attention a head_dim"
            raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, remedy)

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels at the full side, 1/2, 1/4 and 1/8."""
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens; a side that is no multiple of 8 counts upwards."""
        return -(-self.image_size[0] // STRIDE), -(-self.image_size[1] // STRIDE)

    @property
    def heads(self) -> int:
        """Number of attention heads, chosen where it is left out."""
        if self.num_heads is not None:
            return self.num_heads
        if self.attention.own_head_dim is not None:
            return PUBLISHED_HEADS
        return max(heads for heads in range(1, PUBLISHED_HEADS + 1) if self.dim % heads == 0)

    @property
    def prunes(self) -> bool:
        """Whether anything is pruned, so that training has two stages."""
        return isinstance(self.attention, AdaptiveConfig) and self.attention.gate != "none"

    def blocks(self) -> nn.ModuleList:
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
        query_threshold: probability of background from which a token no longer asks; None for no head.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
    """

    query_threshold: float | None = 0.9
    attention: AttentionConfig = field(default_factory=lambda: AdaptiveConfig(head_dim=128))
    name: ClassVar[str] = "apformer"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=STRIDE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.query_threshold is not None and not 0 < self.query_threshold <= 1:
            problem = f"{self.query_threshold} is not in (0, 1]"
            raise GossamerError(ErrorCode.CONFIG, "query_threshold", problem, "use a probability such as 0.9")

    @property
    def prunes_queries(self) -> bool:
        """Whether there is a head that names tokens of the background, and attention that leaves them out."""
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

    ``pruning`` says whether queries and dependencies are pruned; it is on, but for the first stage of training.
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
        self.blocks = config.blocks()
        self.narrow = nn.Conv2d(dim, widths[2], 1, bias=False)
        # What comes from below has as many channels as the skip it joins; the last block keeps its width.
        self.decoder = nn.ModuleList(
            double_convolution(2 * skip, skip, after, norm)
            for skip, after in ((widths[2], widths[1]), (widths[1], widths[0]), (widths[0], widths[0]))
        )
        self.classifier = nn.Conv2d(widths[0], config.num_classes, 1)
        self.apply(initialize)
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
        penalty = mean_penalty(losses)
        weight = TASK_WEIGHT if isinstance(self.config.attention, AdaptiveConfig) else 1.0
        return TrainingOutput(logits, heads, penalty, weight)

    def begin_epoch(self, progress: float) -> bool:
        """Prune from ``warmup_share`` of training on; return whether the network prunes as it will when it is used."""
        self.pruning = not self.config.prunes or progress >= self.config.warmup_share
        gate_dependencies(self.blocks, self.pruning)
        return self.pruning

    @contextmanager
    def all_tokens(self) -> Iterator[None]:
        """Prune no query for as long as this is entered; dependencies are left out as before, at the same work."""
        pruning, self.pruning = self.pruning, False
        try:
            yield
        finally:
            self.pruning = pruning

    @torch.no_grad()
    def pruned_fraction(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch"]:
        """Return the share of tokens of each image that do not ask, as in evaluation; 0 where no query is pruned."""
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
        for block in self.blocks:
            tokens = block(tokens, grid, losses=losses, **pruned)
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
        """Return which tokens ask, or None where all do."""
        threshold = self.config.query_threshold
        if scores is None or threshold is None or not self.pruning:
            return None
        return (torch.softmax(widen(scores), dim=1)[:, 0] < threshold).flatten(1)


def gate_dependencies(blocks: nn.ModuleList, pruning: bool) -> None:
    """Let adaptive attention leave out weak dependencies, or keep all; of no effect without a gate."""
    for block in blocks:
        attention = block.attention
        if isinstance(attention, AdaptiveAttention):
            attention.pruning = pruning and attention.config.gate != "none"


def initialize(module: nn.Module) -> None:
    """Draw the weights of a linear layer from a truncated normal of 0.02, and set its biases to zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


PRESETS = {
    "apformer": APFormerConfig(),
    "apformer_small": APFormerConfig(
        image_size=(64, 64), dim=96, depth=3, num_heads=3, attention=AdaptiveConfig(head_dim=32), norm="group"
    ),
}
