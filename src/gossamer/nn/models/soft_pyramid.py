"""SOFT: a pyramid of four stages with softmax-free attention (Lu et al., arXiv 2110.11945; SOFT++: arXiv 2207.03341).

A stem of three 3x3 convolutions, then stages of blocks with one strided 3x3 convolution between them, learned positions
in each stage, and a linear classifier. Blocks normalize behind their branches::

    y = LN(x + attention(x)) ;  z = LN(y + feed_forward(y))

Paper and released code are different networks. By default SOFT with a fixed number of pooled landmarks is in all four
stages and the readout is the mean of the tokens, so that the work is linear in the pixels. The presets that end in
``_official`` are the released architecture, whose landmarks grow with the image; each difference is one field here or
one of ``SoftConfig``. Stochastic depth leaves branches out for a sample; the released code drops single elements.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import Attention, AttentionConfig, SoftConfig, SoftmaxConfig, SoftNormConfig
from gossamer.nn.attention.base import Grid
from gossamer.nn.layers.block import NORM_EPS, Block
from gossamer.nn.layers.convolution import ConvolutionUnit, Norm
from gossamer.nn.layers.position import LearnedPosition
from gossamer.nn.models.base import Network, NetworkConfig, TrainingOutput, mean_penalty

STAGES = 4
SOFT_NORM_EPS = 1e-5
"""Of the normalizations in SOFT's blocks; a softmax stage and the final one have ``NORM_EPS``."""
TanhGELU = partial(nn.GELU, approximate="tanh")


@dataclass(frozen=True, kw_only=True)
class SoftPyramidConfig(NetworkConfig):
    """Parameters of a SOFT pyramid. Any image size fits: a side that is odd is halved upwards.

    Attributes:
        dims: width of a token in each stage; the first is even.
        depths: number of blocks in each stage.
        num_heads: attention heads of a block in each stage.
        mlp_ratio: hidden width of the feed-forward network over that of a token.
        attention: the mechanism of all stages.
        ratios: of ``soft`` with landmarks by convolution, in each stage; they take the place of its own ``ratio``.
        local_kernels: of ``soft``, in each stage, in place of its own ``local_kernel``; None to leave it.
        last_stage: ``same`` as the others, or ``softmax``, as released: pre-norm blocks with softmax attention and an
            exact GELU, quadratic in the tokens.
        block_norm: of the other blocks: ``post`` behind each branch, as released, or ``pre``, in front.
        pooling: ``mean`` of the tokens after the final LayerNorm, or ``class_token``, which joins in the last stage. A
            class token far from all pooled landmarks receives nothing from a kernel that no softmax normalizes.
        stem_stride: pixels a token of the first stage; 4 as published, 2 for small images.
        convolution_norm: ``batch``, as published, or ``group``.
        dropout: probability after the attention and the feed-forward network.
        drop_path: probability of stochastic depth in the last block; it rises linearly from 0 in the first.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
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
        for key in ("dims", "depths", "num_heads", "ratios"):
            if min(getattr(self, key)) < 1:
                problem = f"{getattr(self, key)} holds less than 1"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use positive numbers")
        for key in ("dropout", "drop_path"):
            if not 0 <= getattr(self, key) < 1:
                problem = f"{getattr(self, key)} is not in [0, 1)"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a probability")
        if self.mlp_ratio <= 0:
            raise GossamerError(ErrorCode.CONFIG, "mlp_ratio", f"{self.mlp_ratio} is not positive", "use 4.0")
        if self.dims[0] % 2:
            problem = f"the stem has half of {self.dims[0]} channels"
            raise GossamerError(ErrorCode.CONFIG, "dims", problem, "use an even first width")
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            if dim % heads:
                problem = f"{heads} heads do not divide a width of {dim}"
                raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, "choose divisors of dims")
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
        """Return rows and columns of tokens in a stage, counted from 0; for images of the config's size if left out."""
        rows, columns = image_size or self.image_size
        stride = self.stem_stride * 2**stage
        return -(-rows // stride), -(-columns // stride)

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise unless the network takes images of this size.

        Raises:
            GossamerError: ``E-CONFIG``, where a stage has fewer tokens than one landmark of a convolution reads.
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
                raise GossamerError(ErrorCode.CONFIG, "image_size", problem, remedy)

    def fitted(self) -> SoftPyramidConfig:
        """Return the config with the mean as readout where the attention of the last stage takes no class token."""
        if self.pooling != "class_token":
            return self
        try:
            with torch.device("meta"):
                self.stage_attention(STAGES - 1).build(
                    self.dims[-1], self.num_heads[-1], grid=self.stage_grid(STAGES - 1), num_prefix_tokens=1
                )
        except GossamerError as error:
            if error.code is not ErrorCode.UNSUPPORTED:
                raise
            return dataclasses.replace(self, pooling="mean")
        return self

    def build(self) -> SoftPyramid:
        """Return the network with fresh weights."""
        return SoftPyramid(self)


class PostNormBlock(Block):
    """SOFT's transformer block, ``LN(x + attention(x))``, then ``LN(y + feed_forward(y))``; arguments of ``Block``."""

    def __init__(self, attention: Attention, mlp_ratio: float, dropout: float, drop_path: float, **others: Any) -> None:
        super().__init__(attention, mlp_ratio, dropout, drop_path, **others)
        if self.attention_scale is not None or self.before_attention is not None:
            raise ValueError("a post-norm block has neither a scale of its branches nor a map in front of them")

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


class Stage(nn.Module):
    """Convolutions that lower the resolution, positions and blocks.

    Args:
        config: of the network.
        stage: which one, from 0.
    """

    def __init__(self, config: SoftPyramidConfig, stage: int) -> None:
        super().__init__()
        dim, grid = config.dims[stage], config.stage_grid(stage)
        prefix = int(stage == STAGES - 1 and config.pooling == "class_token")
        self.embed = nn.Sequential(*_convolutions(config, stage))
        self.class_token = nn.Parameter(torch.empty(1, 1, dim)) if prefix else None
        self.position = LearnedPosition(grid, prefix, dim, resample="bilinear")
        before, blocks = sum(config.depths[:stage]), sum(config.depths)
        self.blocks = nn.ModuleList(
            _block(
                config,
                stage,
                config.stage_attention(stage).build(
                    dim, config.num_heads[stage], grid=grid, num_prefix_tokens=prefix, dropout=config.dropout
                ),
                config.drop_path * index / max(1, blocks - 1),
            )
            for index in range(before, before + config.depths[stage])
        )

    def forward(
        self, plane: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None = None
    ) -> tuple[Float[Tensor, "batch tokens dim"], tuple[int, int]]:
        """Return the tokens, a class token in front if there is one, and their grid."""
        plane = self.embed(plane)
        grid = (plane.shape[2], plane.shape[3])
        tokens = plane.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.position(tokens, grid)
        for block in self.blocks:
            tokens = block(tokens, grid, losses=losses)
        return tokens, grid


class SoftPyramid(Network):
    """Images through four stages of tokens to the logits of a linear classifier."""

    config: SoftPyramidConfig

    def __init__(self, config: SoftPyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(Stage(config, stage) for stage in range(STAGES))
        self.norm = nn.LayerNorm(config.dims[-1], eps=NORM_EPS)
        self.classifier = nn.Linear(config.dims[-1], config.num_classes)
        self.apply(_initialize)

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Return the logits.

        Raises:
            GossamerError: ``E-CONFIG``, for images of another number of channels or of a size that does not fit.
        """
        return self._logits(images, None)

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits, and the mean over blocks of the loss that the attention adds, if it adds one."""
        losses: list[Tensor] = []
        logits = self._logits(images, losses)
        return TrainingOutput(logits, penalty=mean_penalty(losses))

    def _logits(self, images: Tensor, losses: list[Tensor] | None) -> Tensor:
        self.check_images(images)
        tokens, plane = images, images
        for stage in self.stages:
            tokens, grid = stage(plane, losses)
            if stage is not self.stages[-1]:
                plane = tokens.transpose(1, 2).unflatten(2, grid)
        tokens = self.norm(tokens)
        return self.classifier(tokens.mean(dim=1) if self.config.pooling == "mean" else tokens[:, 0])


def _convolutions(config: SoftPyramidConfig, stage: int) -> list[ConvolutionUnit]:
    """Return the stem of the first stage, or the one convolution between two stages; with biases, as released."""
    unit = partial(ConvolutionUnit, norm=config.convolution_norm, bias=True)
    if stage:
        return [unit(config.dims[stage - 1], config.dims[stage], stride=2)]
    dim = config.dims[0]
    half = dim // 2
    last = unit(half, dim, stride=config.stem_stride // 2)
    return [unit(config.in_channels, half, stride=2), unit(half, half), last]


def _block(config: SoftPyramidConfig, stage: int, attention: Attention, drop_path: float) -> Block:
    if stage == STAGES - 1 and config.last_stage == "softmax":
        return Block(attention, config.mlp_ratio, config.dropout, drop_path)
    kind = PostNormBlock if config.block_norm == "post" else Block
    return kind(attention, config.mlp_ratio, config.dropout, drop_path, activation=TanhGELU, norm_eps=SOFT_NORM_EPS)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Stage) and module.class_token is not None:
        nn.init.trunc_normal_(module.class_token, std=0.02)


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
_KINDS = {
    "soft": (SoftConfig(), SoftConfig(landmarks="convolution", scale="none", closed_form_gradient=True)),
    "soft_norm": (SoftNormConfig(), SoftNormConfig(landmarks="convolution", scale="none", jitter=0.0)),
}
# For images of 28 to 224 pixels on a few cores. Cholesky is exact and, on a CPU, faster than Newton's 20 steps. The
# statistics of the batch stay: with those of groups, 300 noisy images are learned by heart before their shapes are.
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
        f"{kind}_{size}": dataclasses.replace(preset, attention=linear)
        for kind, (linear, _) in _KINDS.items()
        for size, preset in _SIZES.items()
    },
    **{
        f"{kind}_{size}_official": dataclasses.replace(preset, attention=released, **_OFFICIAL)
        for kind, (_, released) in _KINDS.items()
        for size, preset in _RELEASED.items()
    },
    "soft_pyramid_small": dataclasses.replace(_TWO_CORES, attention=SoftConfig(inverse="cholesky")),
    "soft_norm_pyramid_small": dataclasses.replace(_TWO_CORES, attention=SoftNormConfig(inverse="cholesky")),
}
