"""SaDNN for segmentation: every convolution of SUMNet becomes local attention (Sathish et al., arXiv 2209.15287).

Attention over a 3x3 window takes a third of the parameters of a 3x3 convolution and about a third of its products. The
published code mixes pixels by a wrong reshape and leaves the logits unscaled; this is the operator of the paper's
figure, scaled unless ``scale=False``. The output layer has a window of 1, hence is a linear map of each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require, require_at_least, require_fraction
from gossamer.nn.layers.local_attention import LocalAttention2d
from gossamer.nn.models.base import InputRequirements, Segmenter, SegmenterConfig
from gossamer.nn.models.sumnet import UnpoolingNet


@dataclass(frozen=True, kw_only=True)
class SaDNNConfig(SegmenterConfig):
    """Parameters of SaDNN.

    Attributes:
        width: Channels of the first layer, a multiple of ``4 * num_heads``; the deepest ones have eight times as many,
            the last but one half as many.
        num_heads: Attention heads of every layer except the output, which has one.
        scale: Whether logits are divided by ``sqrt(head_dim)``; False, as published, saturates the softmax from the
            start.
        dropout: Probability of dropping a channel after the second and the third pooling, in [0, 1).

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    width: int = 64
    num_heads: int = 1
    scale: bool = True
    dropout: float = 0.25
    name: ClassVar[str] = "sadnn"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=16, continuous=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "num_heads")
        even = self.width >= 1 and self.width % (4 * self.num_heads) == 0
        problem = f"{self.width // 2} channels, half of the width, do not split into heads of even width"
        require(even, "width", problem, f"use a width that is a multiple of {4 * self.num_heads}")
        require_fraction(self, "dropout")

    def build(self) -> SaDNN:
        """Return the network with fresh weights."""
        return SaDNN(self)


class SaDNN(Segmenter):
    """SUMNet's encoder and decoder, with local attention in place of each convolution."""

    config: SaDNNConfig

    def __init__(self, config: SaDNNConfig) -> None:
        super().__init__()
        self.config = config

        def build_layer(in_channels: int, out_channels: int, window: int) -> nn.Module:
            heads = config.num_heads if window > 1 else 1
            return LocalAttention2d(in_channels, out_channels, window, heads, config.scale)

        self.network = UnpoolingNet(config.in_channels, config.width, config.num_classes, build_layer, config.dropout)

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        self.check_images(images)
        return self.network(images)


PRESETS = {
    "sadnn_segmenter": SaDNNConfig(in_channels=1),
    "sadnn_segmenter_small": SaDNNConfig(in_channels=1, width=12),
}

SMALL = {
    "sadnn": SaDNNConfig(width=12),
}
