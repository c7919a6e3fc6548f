"""SaDNN for classification: local attention in a VGG-like network (Sathish et al., arXiv 2209.15287), and its twin.

Stages of 3x3 local attention, each layer with a normalization and a ReLU, and max-pooling behind each stage. The
published network flattens what is left, 8x8 pixels of a 512x512 image, for four linear layers that hold 98 % of the
parameters and bind the network to its image size; ``readout="mean"`` averages instead. The operator is that of the
paper's figure, scaled unless ``scale=False``, not that of the published code, which mixes pixels by a wrong reshape.

The twin has a 3x3 convolution with bias, Kaiming-initialized, in the place of each attention layer: three times the
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

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.layers.convolution import Norm, build_normalization
from gossamer.nn.layers.local_attention import LocalAttention2d
from gossamer.nn.models.base import InputRequirements, Network, NetworkConfig

WINDOW = 3
"""Side of what a layer sees around a pixel."""


@dataclass(frozen=True, kw_only=True)
class SaDNNClassifierConfig(NetworkConfig):
    """Parameters of the SaDNN classifier.

    Attributes:
        layer: ``attention``, as published, or ``convolution``, the twin.
        fold: side of the square of pixels that become the channels of one before the first layer; 1, as published,
            leaves the image as it is. Both sides of an image are multiples of it.
        widths: channels of each stage.
        depths: number of layers of each stage; max-pooling by 2 follows each stage, and an odd side pools its last row
            or column alone.
        num_heads: attention heads of every layer; of no effect in the twin.
        scale: divide logits by ``sqrt(head_dim)``; False, as published, saturates the softmax from the start. Of no
            effect in the twin.
        norm: ``batch``, as published, or ``group``, which does not depend on the batch.
        readout: ``flatten``, as published, takes images of ``image_size`` and no other; ``mean`` over the last map
            takes any size.
        hidden: widths of the linear layers between the maps and the classifier, each followed by a ReLU.

    Raises:
        GossamerError: ``E-CONFIG``, where the values do not fit each other.
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
        for key in ("fold", "num_heads"):
            if getattr(self, key) < 1:
                problem = f"{getattr(self, key)} is less than 1"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a positive number")
        super().__post_init__()
        for key in ("widths", "depths", "hidden"):
            if min(getattr(self, key), default=1) < 1:
                problem = f"{getattr(self, key)} holds less than 1"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use positive numbers")
        if not self.widths or len(self.widths) != len(self.depths):
            problem = f"{len(self.depths)} depths for {len(self.widths)} widths of stages"
            raise GossamerError(ErrorCode.CONFIG, "depths", problem, "give one of each a stage, and a stage at least")
        if self.layer == "attention" and any(width % (2 * self.num_heads) for width in self.widths):
            problem = f"{self.widths} channels do not split into {self.num_heads} heads of even width"
            remedy = f"use multiples of {2 * self.num_heads}"
            raise GossamerError(ErrorCode.CONFIG, "widths", problem, remedy)

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=self.fold, fixed_size=self.image_size if self.readout == "flatten" else None)

    @property
    def features(self) -> int:
        """Numbers that the linear layers get from an image."""
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
            nn.Sequential(*_stage(config, channels, width, depth))
            for channels, width, depth in zip(before, config.widths, config.depths, strict=False)
        )
        widths = [config.features, *config.hidden]
        self.hidden = nn.Sequential(
            *(nn.Sequential(nn.Linear(wide, width), nn.ReLU()) for wide, width in pairwise(widths))
        )
        self.classifier = nn.Linear(widths[-1], config.num_classes)

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Return the logits.

        Raises:
            GossamerError: ``E-CONFIG``, for images of another number of channels or of a size that does not fit.
        """
        self.check_images(images)
        maps = self.fold(images)
        for stage in self.stages:
            maps = stage(maps)
        features = maps.mean(dim=(2, 3)) if self.config.readout == "mean" else maps.flatten(1)
        return self.classifier(self.hidden(features))


def _stage(config: SaDNNClassifierConfig, in_channels: int, width: int, depth: int) -> Iterator[nn.Module]:
    for channels in (in_channels, *[width] * (depth - 1)):
        if config.layer == "attention":
            yield LocalAttention2d(channels, width, WINDOW, config.num_heads, config.scale)
        else:
            yield _convolution(channels, width)
        yield build_normalization(config.norm, width)
        yield nn.ReLU()
    yield nn.MaxPool2d(2, ceil_mode=True)


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, WINDOW, padding=WINDOW // 2)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


# Small: window attention is slow at full resolution, and from one channel it makes multiples of one map a head. Folded,
# an image has a quarter of the pixels and four channels.
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
