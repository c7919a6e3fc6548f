"""What every network promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.nn.cost import Cost


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ABC):
    """The fields that every network has; each network adds its own.

    Attributes:
        image_size: ``(rows, columns)`` in pixels.
        in_channels: channels of an image.
        num_classes: number of logits.
    """

    image_size: tuple[int, int] = (224, 224)
    in_channels: int = 3
    num_classes: int = 1000
    name: ClassVar[str]

    def fitted(self) -> NetworkConfig:
        """Return the config with what a preset leaves open chosen to fit its attention."""
        return self

    @abstractmethod
    def build(self) -> Network:
        """Return the network with fresh weights."""


class Network(nn.Module, ABC):
    """A network: images in, logits out."""

    config: NetworkConfig

    @abstractmethod
    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""

    def training_output(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, ""]]:
        """Return the logits, and the sum of what the network adds to the loss of its task; zero for most."""
        logits = self(images)
        return logits, logits.new_zeros(())

    @abstractmethod
    def cost(self, image_size: tuple[int, int] | None = None) -> Cost:
        """Return the closed form of what one image costs, at ``image_size`` or the config's own."""
