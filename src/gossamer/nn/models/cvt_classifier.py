"""CvT as published, a classifier (Wu et al., arXiv 2103.15808): three stages, a class token in the third.

::

    stage  = tokens of LayerNorm(convolution(map)), through blocks with convolutional projections; no positions
    logits = W norm(tokens)[class token] + b

The encoder is that of ``cvt``, with the same names of parameters except for the class token, so that the weights of one
fit the other. With attention that has no place for a class token, the readout is the mean of the tokens instead. The
maps are not joined again, so an image needs only whole patches of the first embedding: sides are multiples of 4, not
of 16.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.attention.base import Host
from gossamer.nn.layers.convolutional_attention import build_convolutional_attention
from gossamer.nn.layers.encoder import is_supported
from gossamer.nn.layers.initialization import initialize_transformer
from gossamer.nn.models.base import AttentionNetwork, InputRequirements
from gossamer.nn.models.cvt import STRIDES, CvTEncoder, CvTEncoderConfig


@dataclass(frozen=True, kw_only=True)
class CvTClassifierConfig(CvTEncoderConfig):
    """Parameters of the CvT classifier: those of its encoder, and the readout.

    Attributes:
        pooling: ``class_token``, as published, or ``mean`` of the tokens after the final LayerNorm.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    pooling: Literal["class_token", "mean"] = "class_token"
    name: ClassVar[str] = "cvt_classifier"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=STRIDES[0])

    def with_supported_readout(self) -> CvTClassifierConfig:
        """Return the config with the mean as readout where the attention takes no class token."""
        host = Host(self.dims[-1], self.num_heads[-1], self.grids[-1], num_prefix_tokens=1)
        if self.pooling == "mean" or is_supported(
            lambda: build_convolutional_attention(self.attention, host, self.key_stride)
        ):
            return self
        return dataclasses.replace(self, pooling="mean")

    def build(self) -> CvTClassifier:
        """Return the network with fresh weights."""
        return CvTClassifier(self)


class CvTClassifier(AttentionNetwork):
    """The encoder and a linear classifier of its class token, or of the mean of its last map."""

    config: CvTClassifierConfig

    def __init__(self, config: CvTClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CvTEncoder(config, class_token=config.pooling == "class_token")
        self.classifier = nn.Linear(config.dims[-1], config.num_classes)
        initialize_transformer(self.classifier)

    def compute_logits(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits; losses of the attention are appended to ``losses``."""
        self.check_images(images)
        planes, readout = self.encoder(images, losses)
        return self.classifier(planes[-1].mean(dim=(2, 3)) if readout is None else readout)


# With 300 synthetic images, the mean of the tokens was right more often than a class token and varied less over seeds.
PRESETS = {
    "cvt_13_classifier": CvTClassifierConfig(),
    "cvt_classifier_small": CvTClassifierConfig(
        image_size=(64, 64), dims=(64, 128, 192), depths=(2, 2, 2), num_heads=(1, 2, 3), pooling="mean", drop_path=0.05
    ),
}

SMALL = {
    "cvt_classifier": CvTClassifierConfig(dims=(8, 16, 24), depths=(1, 1, 2), num_heads=(1, 2, 2), drop_path=0.0),
}
