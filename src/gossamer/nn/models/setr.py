"""SETR with any attention mechanism.

Zheng et al., "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers", arXiv
2012.15840. With key-value attention it is a network of Hwa et al., arXiv 2503.18862.

A ViT encoder at one resolution and one of three decoders: naive, PUP, MLA. Batch normalization takes the place of the
authors' synchronized one. The published parameter counts are those of inference, without the auxiliary heads.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require, require_at_least
from gossamer.nn.layers.convolution import Norm
from gossamer.nn.layers.encoder import Encoder, EncoderConfig, Prefix
from gossamer.nn.layers.patch_embed import PatchEmbed
from gossamer.nn.layers.token_decoders import (
    MLA_LEVELS,
    MultiLevelDecoder,
    NaiveDecoder,
    ProgressiveAuxiliary,
    ProgressiveDecoder,
)
from gossamer.nn.models.base import (
    AuxiliaryHead,
    InputRequirements,
    Segmenter,
    SegmenterConfig,
    TrainingOutput,
    mean_penalty,
)

AUXILIARY_WEIGHT = 0.4


@dataclass(frozen=True, kw_only=True)
class SETRConfig(EncoderConfig, SegmenterConfig):
    """Parameters of SETR, with those of ``EncoderConfig``.

    Attributes:
        decoder: ``naive``, ``pup`` or ``mla``. MLA reads the tokens at the quarter points of the depth.
        decoder_dim: Channels of the decoder, at least 2.
        norm: Normalization of the decoder: ``batch``, as published, or ``group``.
        patch_size: Side of a patch in pixels; divides both sides of an image.
        stem: ``patch``, as published, or ``convolutional``, which learns from fewer images.
        prefix: Use of the class token: ``attended``, as published with the naive decoder and PUP; ``dropped`` before
            the first block, as published with MLA, where it is a parameter without effect; or ``none``.
        auxiliary_heads: Whether ``training_output`` has further logits, each with a cross-entropy of weight 0.4 and
            with parameters that the published counts do not include: naive decoder and PUP from blocks 10, 15 and 20
            of 24, PUP from the last too, MLA from each of its levels. Another depth has them at the same fractions.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    decoder: Literal["naive", "pup", "mla"] = "naive"
    decoder_dim: int = 256
    norm: Norm = "batch"
    patch_size: int = 16
    stem: Literal["patch", "convolutional"] = "patch"
    prefix: Prefix = "attended"
    auxiliary_heads: bool = False
    name: ClassVar[str] = "setr"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "patch_size")
        require_at_least(self, 2, "decoder_dim")
        EncoderConfig.__post_init__(self)
        SegmenterConfig.__post_init__(self)
        problem = f"{self.depth} blocks do not have {MLA_LEVELS} quarter points for mla to read"
        deep = self.decoder != "mla" or self.depth >= MLA_LEVELS
        require(deep, "depth", problem, f"use {MLA_LEVELS} or more, or another decoder")

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def decoded_blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks that the decoder reads, counted from 1."""
        if self.decoder != "mla":
            return (self.depth,)
        return tuple(self.depth * quarter // MLA_LEVELS for quarter in range(1, MLA_LEVELS + 1))

    @property
    def auxiliary_blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks that have an auxiliary head, counted from 1."""
        if not self.auxiliary_heads or self.decoder == "mla":
            return ()
        marks = (10, 15, 20) if self.decoder == "naive" else (10, 15, 20, 24)
        return tuple(sorted({max(1, (self.depth * mark + 12) // 24) for mark in marks}))

    def with_supported_readout(self) -> SETRConfig:
        """Return the config without a class token where the attention takes none."""
        if self.prefix != "attended" or self.takes_class_token(self.grid):
            return self
        return dataclasses.replace(self, prefix="none")

    def build(self) -> SETR:
        """Return the network with fresh weights."""
        return SETR(self)


class SETR(Segmenter):
    """Images to patches to tokens, through blocks, to logits, which are bilinearly resized to the images."""

    config: SETRConfig

    def __init__(self, config: SETRConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.stem, config.patch_size, config.in_channels, config.dim)
        self.encoder = Encoder(config, config.grid, config.prefix)
        shape = (config.dim, config.decoder_dim, config.num_classes, config.norm)
        if config.decoder == "naive":
            self.decoder: nn.Module = NaiveDecoder(*shape)
        elif config.decoder == "pup":
            self.decoder = ProgressiveDecoder(*shape, config.patch_size)
        else:
            self.decoder = MultiLevelDecoder(*shape, config.patch_size)
        self.auxiliary = self._auxiliary_heads()

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        found, grid = self._encode(images, self.config.decoded_blocks, None)
        tokens = [found[number] for number in self.config.decoded_blocks]
        return _resize_to_images(self.decoder(tokens, grid), images)

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits, those of the auxiliary heads, and the mean over blocks of the loss of the attention."""
        losses: list[Tensor] = []
        numbers = self.config.auxiliary_blocks
        found, grid = self._encode(images, {*numbers, *self.config.decoded_blocks}, losses)
        tokens = [found[number] for number in self.config.decoded_blocks]
        if isinstance(self.decoder, MultiLevelDecoder):
            levels = self.decoder.levels(tokens, grid)
            logits = self.decoder.fuse(levels)
            further = [head(level) for head, level in zip(self.auxiliary, levels, strict=False)]
        else:
            logits = self.decoder(tokens, grid)
            further = [head([found[number]], grid) for head, number in zip(self.auxiliary, numbers, strict=True)]
        heads = tuple(AuxiliaryHead(each, AUXILIARY_WEIGHT, "classes", "cross_entropy") for each in further)
        return TrainingOutput(_resize_to_images(logits, images), heads, mean_penalty(losses))

    def _auxiliary_heads(self) -> nn.ModuleList:
        config = self.config
        if config.decoder == "mla":
            levels = MLA_LEVELS if config.auxiliary_heads else 0
            return nn.ModuleList(
                nn.Conv2d(config.decoder_dim, config.num_classes, 1, bias=False) for _ in range(levels)
            )
        head = NaiveDecoder if config.decoder == "naive" else ProgressiveAuxiliary
        shape = (config.dim, config.decoder_dim, config.num_classes, config.norm)
        return nn.ModuleList(head(*shape) for _ in config.auxiliary_blocks)

    def _encode(
        self, images: Tensor, numbers: set[int] | tuple[int, ...], losses: list[Tensor] | None
    ) -> tuple[dict[int, Tensor], tuple[int, int]]:
        self.check_images(images)
        tokens, grid = self.patch_embed(images)
        return self.encoder(tokens, grid, tuple(numbers), losses), grid


def _resize_to_images(logits: Tensor, images: Tensor) -> Tensor:
    size = (images.shape[2], images.shape[3])
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


_LARGE = SETRConfig(dim=1024, depth=24, num_heads=16)
_BASE = SETRConfig(dim=768, depth=12, num_heads=12)
_SMALL = SETRConfig(
    dim=192, depth=6, num_heads=6, decoder_dim=64, norm="group", patch_size=8, stem="convolutional", layer_scale=0.1
)

PRESETS = {
    f"setr_{decoder}{size}": dataclasses.replace(preset, decoder=decoder, prefix=prefix)
    for size, preset in (("", _LARGE), ("_base", _BASE), ("_small", _SMALL))
    for decoder, prefix in (
        ("naive", "attended"),
        ("pup", "attended"),
        ("mla", "none" if size == "_small" else "dropped"),
    )
}

SMALL = {
    "setr" if decoder == "naive" else f"setr_{decoder}": dataclasses.replace(
        PRESETS[f"setr_{decoder}_small"], dim=32, depth=depth, num_heads=2
    )
    for decoder, depth in (("naive", 2), ("pup", 2), ("mla", 4))
}
