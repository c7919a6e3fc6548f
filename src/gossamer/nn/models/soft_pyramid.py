"""SOFT: a pyramid of four stages with softmax-free attention (Lu et al., arXiv 2110.11945; SOFT++: arXiv 2207.03341).

A stem of three 3x3 convolutions, then stages of blocks with one strided 3x3 convolution between them, learned positions
in each stage, and a linear classifier. Blocks normalize behind their branches::

    y = LN(x + attention(x)) ;  z = LN(y + feed_forward(y))

Paper and released code are different networks. By default, all four stages have SOFT with a fixed number of pooled
landmarks and the readout is the mean of the tokens, so that the work is linear in the pixels. The presets that end in
``_official`` are the released architecture, whose landmarks grow with the image; each difference is one field here or
one of ``SoftConfig``. Stochastic depth skips branches for a sample; the released code drops single elements.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require, require_at_least, require_fraction, require_positive
from gossamer.nn.attention import Attention, AttentionConfig, SoftConfig, SoftmaxConfig, SoftNormConfig
from gossamer.nn.attention.base import Grid
from gossamer.nn.layers.block import NORM_EPS, Block, require_whole_heads
from gossamer.nn.layers.convolution import ConvolutionUnit, Norm
from gossamer.nn.layers.encoder import is_supported
from gossamer.nn.layers.initialization import initialize_transformer
from gossamer.nn.layers.position import LearnedPosition
from gossamer.nn.layers.pyramid_stage import PyramidStage
from gossamer.nn.models.base import AttentionNetwork, NetworkConfig

STAGES = 4
SOFT_NORM_EPS = 1e-5
"""Constant of the normalizations in SOFT's blocks; a softmax stage and the final one have ``NORM_EPS``."""
TanhGELU = partial(nn.GELU, approximate="tanh")


@dataclass(frozen=True, kw_only=True)
class SoftPyramidConfig(NetworkConfig):
    """Parameters of a SOFT pyramid. Any image size fits: half of an odd side is rounded up.

    Attributes:
        dims: Width of a token in each stage; the first is even.
        depths: Number of blocks in each stage.
        num_heads: Attention heads of a block in each stage; divide ``dims``.
        mlp_ratio: Hidden width of the feed-forward network divided by that of a token.
        attention: Attention mechanism of all stages.
        ratios: Ratio of ``soft`` with landmarks by convolution, in each stage; replaces ``SoftConfig.ratio``.
        local_kernels: Local kernel of ``soft`` in each stage; replaces ``SoftConfig.local_kernel``. None to keep that.
        last_stage: ``same`` as the others, or ``softmax``, as released: pre-norm blocks with softmax attention and an
            exact GELU, quadratic in the tokens.
        block_norm: Normalization of the other blocks: ``post``, behind each branch, as released, or ``pre``, in front.
        pooling: ``mean`` of the tokens after the final LayerNorm, or ``class_token``, which joins in the last stage. A
            class token far from all pooled landmarks receives nothing from a kernel that no softmax normalizes.
        stem_stride: Pixels per token of the first stage along each axis; 4 as published, 2 for small images.
        convolution_norm: Normalization of convolutions: ``batch``, as published, or ``group``.
        dropout: Dropout probability after the attention and the feed-forward network, in [0, 1).
        drop_path: Probability of stochastic depth in the last block, in [0, 1); rises linearly from 0 in the first.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    dims: tuple[int, int, int, int] = (64, 128, 320, 512)
    depths: tuple[int, int, int, int] = (1, 2, 3, 2)
    num_heads: tuple[int, int, int, int] = (2, 4, 10, 16)
    mlp_ratio: float = 4.0
    attention: AttentionConfig = field(default_factory=SoftConfig)
    ratios: tuple[int, int, int, int] = (8, 4, 2, 1)
    local_kernels: tuple[int, int, int, int] | None = None
    last_stage: Literal["same", "softmax"] = "same"
    block_norm: Literal["post", "pre"] = "post"
    pooling: Literal["mean", "class_token"] = "mean"
    stem_stride: Literal[2, 4] = 4
    convolution_norm: Norm = "batch"
    dropout: float = 0.0
    drop_path: float = 0.1
    name: ClassVar[str] = "soft_pyramid"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "dims", "depths", "num_heads", "ratios")
        require_fraction(self, "dropout", "drop_path")
        require_positive(self, "mlp_ratio")
        problem = f"half of {self.dims[0]} channels, which the stem has, is not a whole number"
        require(self.dims[0] % 2 == 0, "dims", problem, "use an even first width")
        require_whole_heads(self.dims, self.num_heads)
        super().__post_init__()

    def stage_attention(self, stage: int) -> AttentionConfig:
        """Return the mechanism of a stage, counted from 0."""
        if stage == STAGES - 1 and self.last_stage == "softmax":
            return SoftmaxConfig()
        if not isinstance(self.attention, SoftConfig):
            return self.attention
        changes = {"ratio": self.ratios[stage]}
        if self.local_kernels is not None:
            changes["local_kernel"] = self.local_kernels[stage]
        return dataclasses.replace(self.attention, **changes)  # type: ignore[arg-type]

    def stage_grid(self, stage: int, image_size: tuple[int, int] | None = None) -> tuple[int, int]:
        """Return rows and columns of tokens in a stage, counted from 0 (default image size: that of the config)."""
        rows, columns = image_size or self.image_size
        stride = self.stem_stride * 2**stage
        return -(-rows // stride), -(-columns // stride)

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise unless the network takes images of this size.

        Raises:
            GossamerError: ``E-CONFIG``, where a stage has fewer tokens than a landmark by convolution reads.
        """
        super().check_image_size(image_size)
        for stage in range(STAGES):
            attention = self.stage_attention(stage)
            if not isinstance(attention, SoftConfig) or attention.landmarks != "convolution":
                continue
            if min(grid := self.stage_grid(stage, image_size)) < attention.ratio:
                problem = (
                    f"image {image_size[0]}x{image_size[1]} has {grid[0]}x{grid[1]} tokens in stage {stage + 1}, "
                    f"where a landmark reads {attention.ratio}x{attention.ratio}"
                )
                least = (attention.ratio - 1) * self.stem_stride * 2**stage + 1
                remedy = f"pad to sides of {least} or more, or use pooling landmarks"
                require(False, "image_size", problem, remedy)

    def with_supported_readout(self) -> SoftPyramidConfig:
        """Return the config with the mean as readout where the attention of the last stage takes no class token."""
        attention = self.stage_attention(STAGES - 1)
        size = (self.dims[-1], self.num_heads[-1])
        if self.pooling == "mean" or is_supported(
            lambda: attention.build(*size, grid=self.stage_grid(STAGES - 1), num_prefix_tokens=1)
        ):
            return self
        return dataclasses.replace(self, pooling="mean")

    def build(self) -> SoftPyramid:
        """Return the network with fresh weights."""
        return SoftPyramid(self)


class PostNormBlock(Block):
    """SOFT's transformer block, ``LN(x + attention(x))``, then ``LN(y + feed_forward(y))``; arguments of ``Block``."""

    def __init__(self, attention: Attention, mlp_ratio: float, dropout: float, drop_path: float, **others: Any) -> None:
        super().__init__(attention, mlp_ratio, dropout, drop_path, **others)
        if self.attention_scale is not None or self.before_attention is not None:
            raise ValueError("a post-norm block supports neither layer_scale nor before_attention")

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: Grid,
        token_mask: Tensor | None = None,
        losses: list[Tensor] | None = None,
        **pruned: Tensor,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the tokens after both branches; arguments are those of ``Block``."""
        if losses is not None and (loss := self.attention.auxiliary_loss(tokens, grid, token_mask)) is not None:
            losses.append(loss)
        tokens = self.attention_norm(tokens + self.drop_path(self.attention(tokens, grid, token_mask, **pruned)))
        return self.feed_forward_norm(tokens + self.drop_path(self.feed_forward(tokens)))


class SoftPyramid(AttentionNetwork):
    """Images through four stages of tokens to the logits of a linear classifier."""

    config: SoftPyramidConfig

    def __init__(self, config: SoftPyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(_build_stage(config, stage) for stage in range(STAGES))
        self.norm = nn.LayerNorm(config.dims[-1], eps=NORM_EPS)
        self.classifier = nn.Linear(config.dims[-1], config.num_classes)
        self.apply(initialize_transformer)

    def compute_logits(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits; losses of the attention are appended to ``losses``."""
        self.check_images(images)
        tokens, plane = images, images
        for stage in self.stages:
            tokens, grid = stage(plane, losses)
            if stage is not self.stages[-1]:
                plane = tokens.transpose(1, 2).unflatten(2, grid)
        tokens = self.norm(tokens)
        return self.classifier(tokens.mean(dim=1) if self.config.pooling == "mean" else tokens[:, 0])


def _build_stage(config: SoftPyramidConfig, stage: int) -> PyramidStage:
    """Return a stage, counted from 0, with fresh weights."""
    dim, grid = config.dims[stage], config.stage_grid(stage)
    prefix = int(stage == STAGES - 1 and config.pooling == "class_token")
    embed = nn.Sequential(*_build_convolutions(config, stage))
    position = LearnedPosition(grid, prefix, dim, resample="bilinear")
    before, count = sum(config.depths[:stage]), sum(config.depths)
    blocks = nn.ModuleList(
        _build_block(
            config,
            stage,
            config.stage_attention(stage).build(
                dim, config.num_heads[stage], grid=grid, num_prefix_tokens=prefix, dropout=config.dropout
            ),
            config.drop_path * index / max(1, count - 1),
        )
        for index in range(before, before + config.depths[stage])
    )
    return PyramidStage(embed, blocks, position=position, class_token_dim=dim if prefix else None)


def _build_convolutions(config: SoftPyramidConfig, stage: int) -> list[ConvolutionUnit]:
    """Return the stem of the first stage, or the one convolution between two stages; with biases, as released."""
    unit = partial(ConvolutionUnit, norm=config.convolution_norm, bias=True)
    if stage:
        return [unit(config.dims[stage - 1], config.dims[stage], stride=2)]
    dim = config.dims[0]
    half = dim // 2
    last = unit(half, dim, stride=config.stem_stride // 2)
    return [unit(config.in_channels, half, stride=2), unit(half, half), last]


def _build_block(config: SoftPyramidConfig, stage: int, attention: Attention, drop_path: float) -> Block:
    if stage == STAGES - 1 and config.last_stage == "softmax":
        return Block(attention, config.mlp_ratio, config.dropout, drop_path)
    block = PostNormBlock if config.block_norm == "post" else Block
    return block(attention, config.mlp_ratio, config.dropout, drop_path, activation=TanhGELU, norm_eps=SOFT_NORM_EPS)


_SIZES = {
    "tiny": SoftPyramidConfig(),
    "small": SoftPyramidConfig(depths=(1, 3, 7, 4)),
    "medium": SoftPyramidConfig(dims=(64, 128, 288, 512), depths=(1, 3, 29, 5), num_heads=(2, 4, 9, 16)),
    "large": SoftPyramidConfig(depths=(1, 3, 40, 5)),
    "huge": SoftPyramidConfig(dims=(64, 128, 352, 512), depths=(1, 5, 49, 5), num_heads=(2, 4, 11, 16)),
}
# The released "small" is 20 blocks deep in its third stage, the reported one 7.
_RELEASED = _SIZES | {"small_20": SoftPyramidConfig(depths=(1, 3, 20, 4))}
# No local branch is published for SOFT in the last stage, where a softmax takes its place.
_OFFICIAL: dict[str, Any] = {"local_kernels": (9, 5, 3, 0), "last_stage": "softmax", "pooling": "class_token"}
_VARIANTS = {
    "soft": (SoftConfig(), SoftConfig(landmarks="convolution", scale="none", closed_form_gradient=True)),
    "soft_norm": (SoftNormConfig(), SoftNormConfig(landmarks="convolution", scale="none", jitter=0.0)),
}
# For images of 28 to 224 pixels on a few cores. Cholesky is exact and, on a CPU, faster than Newton's 20 steps. Batch
# normalization stays: with group normalization, 300 noisy images are memorized before their shapes are learned.
_TWO_CORES = SoftPyramidConfig(
    image_size=(64, 64),
    dims=(32, 64, 128, 192),
    depths=(1, 1, 3, 1),
    num_heads=(1, 2, 4, 6),
    stem_stride=2,
    drop_path=0.05,
)

PRESETS = {
    **{
        f"{variant}_{size}": dataclasses.replace(preset, attention=linear)
        for variant, (linear, _) in _VARIANTS.items()
        for size, preset in _SIZES.items()
    },
    **{
        f"{variant}_{size}_official": dataclasses.replace(preset, attention=released, **_OFFICIAL)
        for variant, (_, released) in _VARIANTS.items()
        for size, preset in _RELEASED.items()
    },
    "soft_pyramid_small": dataclasses.replace(_TWO_CORES, attention=SoftConfig(inverse="cholesky")),
    "soft_norm_pyramid_small": dataclasses.replace(_TWO_CORES, attention=SoftNormConfig(inverse="cholesky")),
}

SMALL = {
    name: dataclasses.replace(
        _TWO_CORES,
        dims=(8, 16, 16, 24),
        depths=(1, 1, 1, 2),
        num_heads=(2, 2, 2, 2),
        drop_path=0.0,
        attention=attention,
    )
    for name, attention in (
        ("soft_pyramid", SoftConfig()),
        ("soft_pyramid_cholesky", SoftConfig(inverse="cholesky")),
        ("soft_norm_pyramid_cholesky", SoftNormConfig(inverse="cholesky")),
    )
}
