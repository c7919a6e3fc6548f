"""CvT (Wu et al., "Introducing Convolutions to Vision Transformers", arXiv 2103.15808) with a decoder for segmentation.

Three stages, each a convolutional embedding that lowers the resolution, then blocks whose projections are
convolutional; no positions. As an encoder of key-value networks it is that of Hwa et al. (arXiv 2503.18862), who do not
say how keys meet the stride; ``key_stride`` names the choice.

Decoder: Gossamer's own; no published one exists. A 3x3 convolution, then blocks that double the side, join the stage of
that resolution and convolve twice. The class token of the third stage and the classifier are left out; they are in
``cvt_classifier``, which has the same encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import AttentionConfig, SoftmaxConfig
from gossamer.nn.attention.base import Host
from gossamer.nn.layers.block import Block
from gossamer.nn.layers.convolution import ConvolutionUnit, Norm, upsample_features
from gossamer.nn.layers.convolutional_attention import KeyStride, convolutional_attention
from gossamer.nn.models.base import (
    InputRequirements,
    NetworkConfig,
    Segmenter,
    SegmenterConfig,
    TrainingOutput,
    mean_penalty,
)

NORM_EPS = 1e-5
KERNELS, STRIDES, PADDINGS = (7, 3, 3), (4, 2, 2), (2, 1, 1)
"""Of the embeddings of the three stages."""


@dataclass(frozen=True, kw_only=True)
class CvTEncoderConfig(NetworkConfig):
    """The fields of the three stages, which the segmentation network and the classifier share.

    Attributes:
        dims: width of a token in each stage.
        depths: number of blocks in each stage.
        num_heads: attention heads of a block in each stage.
        mlp_ratio: hidden width of the feed-forward network over that of a token.
        attention: the mechanism. Softmax, ``kv`` and ``kv_pos`` have convolutional projections, with keys and values at
            stride 2; any other reads the tokens behind one depthwise convolution, with keys at stride 1.
        key_stride: what takes the place of the queries' stride of 1 against the keys' 2 in ``kv`` and ``kv_pos``.
        dropout: probability after the attention and the feed-forward network.
        drop_path: probability of stochastic depth in the last block; it rises linearly within the third stage.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
    """

    dims: tuple[int, int, int] = (64, 192, 384)
    depths: tuple[int, int, int] = (1, 2, 10)
    num_heads: tuple[int, int, int] = (1, 3, 6)
    mlp_ratio: float = 4.0
    attention: AttentionConfig = field(default_factory=SoftmaxConfig)
    key_stride: KeyStride = "shared_slice"
    dropout: float = 0.0
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("dims", "depths", "num_heads"):
            check_positive(key, getattr(self, key))
        for key in ("dropout", "drop_path"):
            if not 0 <= getattr(self, key) < 1:
                problem = f"{getattr(self, key)} is not in [0, 1)"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a probability")
        if self.mlp_ratio <= 0:
            raise GossamerError(ErrorCode.CONFIG, "mlp_ratio", f"{self.mlp_ratio} is not positive", "use 4.0")
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            if dim % heads:
                problem = f"{heads} heads do not divide a width of {dim}"
                raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, "choose divisors of dims")

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of tokens in each stage; an odd side is halved upwards."""
        (rows, columns), found = self.image_size, []
        for stride in STRIDES:
            rows, columns = -(-rows // stride), -(-columns // stride)
            found.append((rows, columns))
        return found


def check_positive(key: str, values: tuple[int, ...]) -> None:
    """Raise unless every value is 1 or more.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if min(values) < 1:
        raise GossamerError(ErrorCode.CONFIG, key, f"{values} holds less than 1", "use positive numbers")


@dataclass(frozen=True, kw_only=True)
class CvTConfig(SegmenterConfig, CvTEncoderConfig):
    """Parameters of CvT.

    Attributes:
        decoder_dims: channels of the decoder's first convolution and of the four blocks that double the side.
        decoder_norm: of the decoder: ``batch`` or ``group``. Projections always have BatchNorm, as published.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
    """

    decoder_dims: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    decoder_norm: Norm = "batch"
    attention: AttentionConfig = field(default_factory=SoftmaxConfig)
    name: ClassVar[str] = "cvt"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=16)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("decoder_dims", self.decoder_dims)

    def build(self) -> CvT:
        """Return the network with fresh weights."""
        return CvT(self)


class QuickGELU(nn.Module):
    """``x sigmoid(1.702 x)``, the activation of the authors' code."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the activated values."""
        return values * torch.sigmoid(1.702 * values)


class Stage(nn.Module):
    """A convolutional embedding of a map, and blocks.

    Args:
        config: of the network.
        index: of the stage, from 0.
        grid: rows and columns of tokens that the blocks are built for.
        class_token: whether a learned token joins those of the grid.
    """

    def __init__(self, config: CvTEncoderConfig, index: int, grid: tuple[int, int], class_token: bool) -> None:
        super().__init__()
        dim, depth = config.dims[index], config.depths[index]
        channels = config.in_channels if index == 0 else config.dims[index - 1]
        self.embed = nn.Conv2d(channels, dim, KERNELS[index], STRIDES[index], PADDINGS[index])
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim)) if class_token else None
        drop_path = config.drop_path if index == len(config.dims) - 1 else 0.0
        host = Host(dim, config.num_heads[index], grid, int(class_token), True, config.dropout)
        blocks = []
        for place in range(depth):
            attention, convolution = convolutional_attention(config.attention, host, config.key_stride)
            blocks.append(
                Block(
                    attention,
                    config.mlp_ratio,
                    config.dropout,
                    drop_path * place / max(1, depth - 1),
                    activation=QuickGELU,
                    norm_eps=NORM_EPS,
                    before_attention=convolution,
                )
            )
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, plane: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None = None
    ) -> tuple[Float[Tensor, "batch tokens dim"], tuple[int, int]]:
        """Return the tokens, a class token in front if there is one, and their grid."""
        plane = self.embed(plane)
        grid = (plane.shape[2], plane.shape[3])
        tokens = self.norm(plane.flatten(2).transpose(1, 2))
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, grid, losses=losses)
        return tokens, grid


class CvTEncoder(nn.Module):
    """The three stages and the final LayerNorm.

    Args:
        config: of the network.
        class_token: whether a class token joins the third stage, as in the published classifier.
    """

    def __init__(self, config: CvTEncoderConfig, class_token: bool = False) -> None:
        super().__init__()
        last = len(config.dims) - 1
        stages = [Stage(config, index, grid, class_token and index == last) for index, grid in enumerate(config.grids)]
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(config.dims[-1], eps=NORM_EPS)
        self.apply(initialize)
        for stage in stages:
            if stage.class_token is not None:
                nn.init.trunc_normal_(stage.class_token, std=0.02)

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None = None
    ) -> tuple[list[Tensor], Float[Tensor, "batch dim"] | None]:
        """Return the maps of the stages at 1/4, 1/8 and 1/16 of the side, and the class token if there is one."""
        planes, plane, readout = [], images, None
        for stage in self.stages:
            tokens, grid = stage(plane, losses)
            if stage is self.stages[-1]:
                tokens = self.norm(tokens)
            if stage.class_token is not None:
                readout, tokens = tokens[:, 0], tokens[:, 1:]
            plane = tokens.transpose(1, 2).unflatten(2, grid)
            planes.append(plane)
        return planes, readout


class Decoder(nn.Module):
    """Maps at 1/16, 1/8 and 1/4 of the side to logits at the full side.

    Args:
        config: of the network.
    """

    def __init__(self, config: CvTConfig) -> None:
        super().__init__()
        widths, norm = config.decoder_dims, config.decoder_norm
        self.narrow = ConvolutionUnit(config.dims[-1], widths[0], norm=norm)
        skips = (config.dims[1], config.dims[0], 0, 0)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                ConvolutionUnit(wide + skip, width, norm=norm),
                ConvolutionUnit(width, width, norm=norm),
            )
            for (wide, width), skip in zip(pairwise(widths), skips, strict=True)
        )
        self.classifier = nn.Conv2d(widths[-1], config.num_classes, 3, padding=1)

    def forward(self, planes: list[Tensor]) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits, from the maps of the stages in their order."""
        plane = self.narrow(planes[-1])
        skips: list[Tensor | None] = [planes[1], planes[0], None, None]
        for block, skip in zip(self.blocks, skips, strict=True):
            plane = upsample_features(plane, 2, align_corners=False)
            plane = block(plane if skip is None else torch.cat([plane, skip], dim=1))
        return self.classifier(plane)


class CvT(Segmenter):
    """The encoder without a class token, and the decoder."""

    config: CvTConfig

    def __init__(self, config: CvTConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CvTEncoder(config)
        self.decoder = Decoder(config)

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        return self._logits(images, None)

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits, and the mean over blocks of the loss that the attention adds, if it has any."""
        losses: list[Tensor] = []
        logits = self._logits(images, losses)
        return TrainingOutput(logits, penalty=mean_penalty(losses))

    def _logits(self, images: Tensor, losses: list[Tensor] | None) -> Tensor:
        self.check_images(images)
        planes, _ = self.encoder(images, losses)
        return self.decoder(planes)


def initialize(module: nn.Module) -> None:
    """Draw the weights of a linear layer from a truncated normal of 0.02, and set its biases to zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


PRESETS = {
    "cvt_13": CvTConfig(),
    "cvt_small": CvTConfig(
        image_size=(64, 64),
        dims=(48, 96, 192),
        depths=(1, 2, 4),
        num_heads=(1, 2, 4),
        decoder_dims=(96, 64, 48, 32, 16),
        decoder_norm="group",
        drop_path=0.05,
    ),
}
