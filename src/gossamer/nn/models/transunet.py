"""TransUNet with any attention mechanism.

Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", arXiv 2102.04306. With
key-value attention it is a network of Hwa et al., arXiv 2503.18862.

A convolutional stem, a transformer on its coarsest map, and the cascaded upsampler, which takes in the stem's finer
maps. ``transunet`` is R50-ViT-B/16 as published. ``transunet_small`` is ours: a residual stem that starts at full
resolution, and tokens of 8x8 pixels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require
from gossamer.nn.layers.block import NORM_EPS
from gossamer.nn.layers.convolution import Norm
from gossamer.nn.layers.convolutional_stem import ResidualStem, ResNetStem
from gossamer.nn.layers.encoder import Encoder, EncoderConfig, TokensToMap
from gossamer.nn.layers.skip_decoder import CascadedUpsampler
from gossamer.nn.models.base import AttentionNetwork, InputRequirements, Segmenter, SegmenterConfig

_COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class TransUNetConfig(EncoderConfig, SegmenterConfig):
    """Parameters of TransUNet, with those of ``EncoderConfig``. There is no class token.

    Attributes:
        stem: ``resnet``, as published, which starts at half the resolution; or ``residual``, at full resolution.
        stem_width: Channels of the stem's first map; a multiple of 32 for ``resnet``.
        stem_units: Units of each stage of the stem. A token's side is ``2 ** (stages + 1)`` pixels for ``resnet``,
            ``2 ** (stages - 1)`` for ``residual``.
        decoder_widths: Channels of the decoder before its first doubling and after each; the doublings lead from the
            tokens back to the pixels.
        norm: Normalization of the decoder and of a residual stem: ``batch``, as in the published decoder, or ``group``.
        tile_single_channel: Whether an image of one channel is repeated for a stem of three channels, as published.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    image_size: tuple[int, int] = (224, 224)
    stem: Literal["resnet", "residual"] = "resnet"
    stem_width: int = 64
    stem_units: tuple[int, ...] = (3, 4, 9)
    decoder_widths: tuple[int, ...] = (512, 256, 128, 64, 16)
    norm: Norm = "batch"
    tile_single_channel: bool = True
    dropout: float = 0.1
    name: ClassVar[str] = "transunet"

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)
        problem = f"{self.stem_units} has a stage without a unit"
        complete = bool(self.stem_units) and min(self.stem_units) >= 1
        require(complete, "stem_units", problem, "give one or more units for each stage")
        step = 32 if self.stem == "resnet" else 1
        problem = f"{self.stem_width} is not a positive multiple of {step}"
        whole = self.stem_width >= 1 and self.stem_width % step == 0
        require(whole, "stem_width", problem, f"use {step} or {2 * step}")
        problem = f"{self.decoder_widths} does not double the resolution {self.doublings} times"
        whole = len(self.decoder_widths) == self.doublings + 1 and min(self.decoder_widths) >= 1
        require(whole, "decoder_widths", problem, f"give {self.doublings + 1} positive widths")
        SegmenterConfig.__post_init__(self)

    @property
    def doublings(self) -> int:
        """Number of times that the stem halves an image."""
        return len(self.stem_units) + (1 if self.stem == "resnet" else -1)

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=2**self.doublings)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        side = 2**self.doublings
        return self.image_size[0] // side, self.image_size[1] // side

    @property
    def tiled(self) -> bool:
        """Whether the one channel of the images is repeated."""
        return self.tile_single_channel and self.in_channels == 1

    def build(self) -> TransUNet:
        """Return the network with fresh weights."""
        return TransUNet(self)


class TransUNet(AttentionNetwork, Segmenter):
    """Images through the stem to tokens, through blocks, and back to pixels with the finer maps of the stem."""

    config: TransUNetConfig

    def __init__(self, config: TransUNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = _COLOURS if config.tiled else config.in_channels
        if config.stem == "resnet":
            self.stem: ResNetStem | ResidualStem = ResNetStem(channels, config.stem_width, config.stem_units)
        else:
            self.stem = ResidualStem(channels, config.stem_width, config.stem_units, config.norm)
        self.embed = nn.Conv2d(self.stem.out_channels, config.dim, 1)
        self.encoder = Encoder(config, config.grid)
        self.map = TokensToMap(config.dim, NORM_EPS)
        self.decoder = CascadedUpsampler(
            config.dim, config.decoder_widths, self.stem.skip_channels, config.num_classes, config.norm
        )

    def compute_logits(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits; losses of the attention are appended to ``losses``."""
        self.check_images(images)
        features, skips = self.stem(images.repeat(1, _COLOURS, 1, 1) if self.config.tiled else images)
        features = self.embed(features)
        grid = (features.shape[2], features.shape[3])
        last = self.config.depth
        tokens = self.encoder(features.flatten(2).transpose(1, 2), grid, (last,), losses)[last]
        return self.decoder(self.map(tokens, grid), skips)


PRESETS = {
    "transunet": TransUNetConfig(),
    "transunet_small": TransUNetConfig(
        image_size=(64, 64),
        stem="residual",
        stem_width=16,
        stem_units=(1, 1, 1, 1),
        decoder_widths=(128, 64, 32, 16),
        norm="group",
        tile_single_channel=False,
        dim=128,
        depth=4,
        num_heads=4,
        dropout=0.0,
        layer_scale=0.1,
    ),
}

SMALL = {
    "transunet": dataclasses.replace(PRESETS["transunet_small"], dim=32, depth=2, num_heads=2),
}
