"""TransUNet with any attention mechanism.

Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", arXiv 2102.04306. With
key-value attention it is a network of Hwa et al., arXiv 2503.18862.

A convolutional stem, a transformer on its coarsest map, and the cascaded upsampler, which takes in the stem's finer
maps. ``transunet`` is R50-ViT-B/16 as published. ``transunet_small`` is ours: a residual stem that starts at full
resolution, and tokens of 8x8 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.layers.block import NORM_EPS
from gossamer.nn.layers.convolution import Norm
from gossamer.nn.layers.convolutional_stem import ResidualStem, ResNetStem
from gossamer.nn.layers.encoder import Encoder, EncoderConfig, TokensToMap
from gossamer.nn.layers.skip_decoder import CascadedUpsampler
from gossamer.nn.models.base import InputRequirements, Segmenter, SegmenterConfig, TrainingOutput, mean_penalty

_COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class TransUNetConfig(EncoderConfig, SegmenterConfig):
    """Parameters of TransUNet; those of its blocks are those of ``EncoderConfig``. There is no class token.

    Attributes:
        stem: ``resnet``, as published, which starts at half the resolution; or ``residual``, at full resolution.
        stem_width: channels of the stem's first map; a multiple of 32 for ``resnet``.
        stem_units: units of each stage of the stem. A token's side is ``2 ** (stages + 1)`` pixels for ``resnet``,
            ``2 ** (stages - 1)`` for ``residual``.
        decoder_widths: channels of the decoder before its first doubling and after each; the doublings lead from the
            tokens back to the pixels.
        norm: of the decoder and of a residual stem: ``batch``, as the published decoder, or ``group``.
        tile_single_channel: whether an image of one channel is given to a stem of three, three times, as published.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
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
        if not self.stem_units or min(self.stem_units) < 1:
            problem = f"{self.stem_units} leaves a stage without a unit"
            raise GossamerError(ErrorCode.CONFIG, "stem_units", problem, "give one or more units a stage")
        step = 32 if self.stem == "resnet" else 1
        if self.stem_width < 1 or self.stem_width % step:
            problem = f"{self.stem_width} is no positive multiple of {step}"
            raise GossamerError(ErrorCode.CONFIG, "stem_width", problem, f"use {step} or {2 * step}")
        if len(self.decoder_widths) != self.doublings + 1 or min(self.decoder_widths) < 1:
            problem = f"{self.decoder_widths} do not lead {self.doublings} times to twice the resolution"
            remedy = f"give {self.doublings + 1} positive widths"
            raise GossamerError(ErrorCode.CONFIG, "decoder_widths", problem, remedy)
        SegmenterConfig.__post_init__(self)

    @property
    def doublings(self) -> int:
        """How often the stem halves an image."""
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
        """Whether the images' one channel is repeated."""
        return self.tile_single_channel and self.in_channels == 1

    def build(self) -> TransUNet:
        """Return the network with fresh weights."""
        return TransUNet(self)


class TransUNet(Segmenter):
    """Images through the stem to tokens, through blocks, and back to the pixels with the stem's finer maps."""

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

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        return self._logits(images, None)

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits, and the mean over blocks of what the attention adds."""
        losses: list[Tensor] = []
        logits = self._logits(images, losses)
        return TrainingOutput(logits, penalty=mean_penalty(losses))

    def _logits(self, images: Tensor, losses: list[Tensor] | None) -> Tensor:
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
