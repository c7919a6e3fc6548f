"""CvT (Wu et al., "Introducing Convolutions to Vision Transformers", arXiv 2103.15808) with a decoder for segmentation.

Three stages, each a convolutional embedding that lowers the resolution, then blocks whose projections are
convolutional; no positions. As an encoder of key-value networks it is that of Hwa et al. (arXiv 2503.18862), who do not
say how queries and keys are combined where keys have a stride; ``key_stride`` names the choice.

The decoder is Gossamer's own; no published one exists. A 3x3 convolution, then blocks that double the side, join the
map of the stage with that resolution and convolve twice. The class token of the third stage and the classifier are in
``cvt_classifier``, which has the same encoder.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require_at_least, require_fraction, require_positive
from gossamer.nn.attention import AttentionConfig, SoftmaxConfig
from gossamer.nn.attention.base import Host
from gossamer.nn.layers.block import Block, require_whole_heads
from gossamer.nn.layers.convolution import ConvolutionUnit, Norm, upsample_features
from gossamer.nn.layers.convolution_pyramid import build_double_convolution
from gossamer.nn.layers.convolutional_attention import KeyStride, build_convolutional_attention
from gossamer.nn.layers.initialization import initialize_transformer
from gossamer.nn.layers.pyramid_stage import PyramidStage
from gossamer.nn.models.base import AttentionNetwork, InputRequirements, NetworkConfig, Segmenter, SegmenterConfig

NORM_EPS = 1e-5
KERNELS, STRIDES, PADDINGS = (7, 3, 3), (4, 2, 2), (2, 1, 1)
"""Sizes of the embeddings of the three stages."""


@dataclass(frozen=True, kw_only=True)
class CvTEncoderConfig(NetworkConfig):
    """Fields of the three stages, which the segmentation network and the classifier share.

    Attributes:
        dims: Width of a token in each stage.
        depths: Number of blocks in each stage.
        num_heads: Attention heads of a block in each stage; divide ``dims``.
        mlp_ratio: Hidden width of the feed-forward network divided by that of a token.
        attention: Attention mechanism. Softmax, ``kv`` and ``kv_pos`` have convolutional projections, with keys and
            values at stride 2; any other reads the tokens behind one depthwise convolution, with keys at stride 1.
        key_stride: Replacement in ``kv`` and ``kv_pos`` for queries of stride 1 with keys of stride 2.
        dropout: Dropout probability after the attention and the feed-forward network, in [0, 1).
        drop_path: Probability of stochastic depth in the last block, in [0, 1); rises linearly within the third stage.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
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
        require_at_least(self, 1, "dims", "depths", "num_heads")
        require_fraction(self, "dropout", "drop_path")
        require_positive(self, "mlp_ratio")
        require_whole_heads(self.dims, self.num_heads)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of tokens in each stage; half of an odd side is rounded up."""
        (rows, columns), found = self.image_size, []
        for stride in STRIDES:
            rows, columns = -(-rows // stride), -(-columns // stride)
            found.append((rows, columns))
        return found


@dataclass(frozen=True, kw_only=True)
class CvTConfig(SegmenterConfig, CvTEncoderConfig):
    """Parameters of CvT for segmentation.

    Attributes:
        decoder_dims: Channels of the decoder's first convolution and of the four blocks that double the side.
        decoder_norm: Normalization of the decoder: ``batch`` or ``group``. Projections always have BatchNorm, as
            published.
        attention: Attention mechanism, as in ``CvTEncoderConfig``.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    decoder_dims: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    decoder_norm: Norm = "batch"
    # Repeated, since the fields of SegmenterConfig, which has no attention, take precedence.
    attention: AttentionConfig = field(default_factory=SoftmaxConfig)
    name: ClassVar[str] = "cvt"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=16)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "decoder_dims")

    def build(self) -> CvT:
        """Return the network with fresh weights."""
        return CvT(self)


class QuickGELU(nn.Module):
    """``x sigmoid(1.702 x)``, the activation of the authors' code."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the activated values."""
        return values * torch.sigmoid(1.702 * values)


class CvTEncoder(nn.Module):
    """The three stages and the final LayerNorm.

    Args:
        config: Config of the network.
        class_token: Whether a class token joins the third stage, as in the published classifier.
    """

    def __init__(self, config: CvTEncoderConfig, class_token: bool = False) -> None:
        super().__init__()
        last = len(config.dims) - 1
        self.stages = nn.ModuleList(
            _build_stage(config, index, grid, class_token and index == last) for index, grid in enumerate(config.grids)
        )
        self.norm = nn.LayerNorm(config.dims[-1], eps=NORM_EPS)
        self.apply(initialize_transformer)

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


def _build_stage(config: CvTEncoderConfig, index: int, grid: tuple[int, int], class_token: bool) -> PyramidStage:
    """Return a stage with fresh weights.

    Args:
        config: Config of the network.
        index: Number of the stage, from 0.
        grid: Rows and columns of tokens that the blocks are built for.
        class_token: Whether a learned token joins those of the grid.
    """
    dim, depth = config.dims[index], config.depths[index]
    channels = config.in_channels if index == 0 else config.dims[index - 1]
    embed = nn.Conv2d(channels, dim, KERNELS[index], STRIDES[index], PADDINGS[index])
    drop_path = config.drop_path if index == len(config.dims) - 1 else 0.0
    host = Host(dim, config.num_heads[index], grid, int(class_token), True, config.dropout)
    blocks = nn.ModuleList()
    for place in range(depth):
        attention, convolution = build_convolutional_attention(config.attention, host, config.key_stride)
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
    norm = nn.LayerNorm(dim, eps=NORM_EPS)
    return PyramidStage(embed, blocks, norm=norm, class_token_dim=dim if class_token else None)


class CvTDecoder(nn.Module):
    """Maps at 1/16, 1/8 and 1/4 of the side to logits at the full side.

    Args:
        config: Config of the network.
    """

    def __init__(self, config: CvTConfig) -> None:
        super().__init__()
        widths, norm = config.decoder_dims, config.decoder_norm
        self.narrow = ConvolutionUnit(config.dims[-1], widths[0], norm=norm)
        skips = (config.dims[1], config.dims[0], 0, 0)
        self.blocks = nn.ModuleList(
            build_double_convolution(wide + skip, width, width, norm)
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


class CvT(AttentionNetwork, Segmenter):
    """The encoder without a class token, and the decoder."""

    config: CvTConfig

    def __init__(self, config: CvTConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CvTEncoder(config)
        self.decoder = CvTDecoder(config)

    def compute_logits(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits; losses of the attention are appended to ``losses``."""
        self.check_images(images)
        planes, _ = self.encoder(images, losses)
        return self.decoder(planes)


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

SMALL = {
    "cvt": dataclasses.replace(PRESETS["cvt_small"], dims=(16, 32, 32), depths=(1, 1, 2), num_heads=(1, 2, 2)),
}
