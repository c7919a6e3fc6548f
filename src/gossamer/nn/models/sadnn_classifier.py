"""SaDNN for classification: local attention in a VGG-like network (Sathish et al., arXiv 2209.15287), and a baseline.

Stages of 3x3 local attention, each layer with a normalization and a ReLU, and max-pooling behind each stage. The
published network flattens the last map, 8x8 pixels of a 512x512 image, for four linear layers that have 98 % of the
parameters and fix the image size; ``readout="mean"`` averages instead. The operator is that of the paper's figure,
scaled unless ``scale=False``, not that of the published code, which mixes pixels by a wrong reshape.

The baseline has a 3x3 convolution with bias, Kaiming-initialized, in place of each attention layer: three times the
weights of a layer. Widths, depths, normalization, pooling and linear layers are identical, and so is the 3x3
neighbourhood that a layer sees. It is Gossamer's own; the paper compares with ResNets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require, require_at_least
from gossamer.nn.layers.convolution import Norm, build_convolution, build_normalization
from gossamer.nn.layers.local_attention import LocalAttention2d
from gossamer.nn.models.base import InputRequirements, Network, NetworkConfig

WINDOW = 3
"""Side of the neighbourhood that a layer sees around a pixel."""


@dataclass(frozen=True, kw_only=True)
class SaDNNClassifierConfig(NetworkConfig):
    """Parameters of the SaDNN classifier.

    Attributes:
        layer: ``attention``, as published, or ``convolution``, the baseline.
        fold: Side of the square of pixels that become the channels of one before the first layer; 1, as published,
            keeps the image as it is. Both sides of an image are multiples of it.
        widths: Channels of each stage.
        depths: Number of layers of each stage; max-pooling by 2 follows each stage, and an odd side pools its last row
            or column alone.
        num_heads: Attention heads of every layer; without effect in the baseline.
        scale: Whether logits are divided by ``sqrt(head_dim)``; False, as published, saturates the softmax from the
            start. Without effect in the baseline.
        norm: ``batch``, as published, or ``group``, which does not depend on the batch.
        readout: ``flatten``, as published, takes images of ``image_size`` only; ``mean`` over the last map takes any
            size.
        hidden: Widths of the linear layers between the maps and the classifier, each followed by a ReLU.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    image_size: tuple[int, int] = (512, 512)
    in_channels: int = 1
    num_classes: int = 14
    layer: Literal["attention", "convolution"] = "attention"
    fold: int = 1
    widths: tuple[int, ...] = (16, 32, 64, 64, 64, 64)
    depths: tuple[int, ...] = (2, 2, 2, 2, 2, 1)
    num_heads: int = 1
    scale: bool = True
    norm: Norm = "batch"
    readout: Literal["flatten", "mean"] = "flatten"
    hidden: tuple[int, ...] = (1024, 256, 64)
    name: ClassVar[str] = "sadnn_classifier"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "fold", "num_heads")
        super().__post_init__()
        require_at_least(self, 1, "widths", "depths", "hidden")
        problem = f"{len(self.depths)} depths for {len(self.widths)} widths of stages"
        paired = bool(self.widths) and len(self.widths) == len(self.depths)
        require(paired, "depths", problem, "give one width and one depth for each stage, and at least one stage")
        even = self.layer != "attention" or all(width % (2 * self.num_heads) == 0 for width in self.widths)
        problem = f"{self.widths} channels do not split into {self.num_heads} heads of even width"
        require(even, "widths", problem, f"use multiples of {2 * self.num_heads}")

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=self.fold, fixed_size=self.image_size if self.readout == "flatten" else None)

    @property
    def features(self) -> int:
        """Number of features of an image that the linear layers read."""
        if self.readout == "mean":
            return self.widths[-1]
        shrunk = self.fold * 2 ** len(self.widths)
        return self.widths[-1] * math.prod(math.ceil(side / shrunk) for side in self.image_size)

    def build(self) -> SaDNNClassifier:
        """Return the network with fresh weights."""
        return SaDNNClassifier(self)


class SaDNNClassifier(Network):
    """Stages of local attention or convolutions, pooled, and linear layers."""

    config: SaDNNClassifierConfig

    def __init__(self, config: SaDNNClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.fold = nn.PixelUnshuffle(config.fold)
        before = (config.in_channels * config.fold**2, *config.widths)
        self.stages = nn.ModuleList(
            nn.Sequential(*_build_layers(config, channels, width, depth))
            for channels, width, depth in zip(before, config.widths, config.depths, strict=False)
        )
        widths = [config.features, *config.hidden]
        self.hidden = nn.Sequential(
            *(nn.Sequential(nn.Linear(wide, width), nn.ReLU()) for wide, width in pairwise(widths))
        )
        self.classifier = nn.Linear(widths[-1], config.num_classes)

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        self.check_images(images)
        maps = self.fold(images)
        for stage in self.stages:
            maps = stage(maps)
        features = maps.mean(dim=(2, 3)) if self.config.readout == "mean" else maps.flatten(1)
        return self.classifier(self.hidden(features))


def _build_layers(config: SaDNNClassifierConfig, in_channels: int, width: int, depth: int) -> Iterator[nn.Module]:
    for channels in (in_channels, *[width] * (depth - 1)):
        if config.layer == "attention":
            yield LocalAttention2d(channels, width, WINDOW, config.num_heads, config.scale)
        else:
            yield build_convolution(channels, width, WINDOW)
        yield build_normalization(config.norm, width)
        yield nn.ReLU()
    yield nn.MaxPool2d(2, ceil_mode=True)


# The small one folds: window attention is slow at full resolution, and from one channel each head makes multiples of
# one map. A folded image has a quarter of the pixels and four channels.
_SIZES = {
    "sadnn_classifier": SaDNNClassifierConfig(),
    "sadnn_classifier_small": SaDNNClassifierConfig(
        image_size=(64, 64),
        fold=2,
        widths=(32, 64, 128, 256),
        depths=(2, 2, 2, 2),
        num_heads=4,
        norm="group",
        readout="mean",
        hidden=(),
    ),
}

PRESETS = {
    "sadnn_classifier": _SIZES["sadnn_classifier"],
    "sadnn_classifier_convolution": dataclasses.replace(_SIZES["sadnn_classifier"], layer="convolution"),
    "sadnn_classifier_small": _SIZES["sadnn_classifier_small"],
    "sadnn_classifier_convolution_small": dataclasses.replace(_SIZES["sadnn_classifier_small"], layer="convolution"),
}

SMALL = {
    "sadnn_classifier": SaDNNClassifierConfig(widths=(16, 32), depths=(1, 1), num_heads=2, hidden=(), readout="mean"),
    "sadnn_classifier_flatten": SaDNNClassifierConfig(widths=(16, 32), depths=(1, 1), num_heads=2, hidden=(8,)),
    "sadnn_classifier_fold": SaDNNClassifierConfig(
        fold=2, widths=(16, 32), depths=(1, 1), num_heads=2, norm="group", readout="mean", hidden=()
    ),
}
