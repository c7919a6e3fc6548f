"""MONAI's residual UNet (Kerfoot et al., STACOM 2018), the outside reference of the comparisons.

The network is MONAI's own, with the sizes of its examples: five levels, strided convolutions down, transposed ones up,
two residual units a level, instance normalization and PReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require, require_at_least
from gossamer.nn.models.base import InputRequirements, Segmenter, SegmenterConfig


@dataclass(frozen=True, kw_only=True)
class MonaiUNetConfig(SegmenterConfig):
    """Parameters of MONAI's UNet.

    Attributes:
        channels: Channels of the five levels; each level has half the resolution of the one above.
        num_res_units: Convolutions of a residual unit.

    Raises:
        GossamerError: ``E-CONFIG``, for a number less than 1, or an image that is one pixel in the last level.
    """

    channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)
    num_res_units: int = 2
    name: ClassVar[str] = "monai_unet"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements(multiple=16)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "channels", "num_res_units")

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise unless the network takes images of this size.

        Raises:
            GossamerError: ``E-CONFIG``, with the size to pad to.
        """
        super().check_image_size(image_size)
        check_deepest_map(image_size, self.input_requirements.multiple)

    def build(self) -> MonaiUNet:
        """Return the network with fresh weights."""
        return MonaiUNet(self)


class MonaiUNet(Segmenter):
    """MONAI's UNet in two dimensions."""

    config: MonaiUNetConfig

    def __init__(self, config: MonaiUNetConfig) -> None:
        # MONAI takes a second to import, and every command imports the table of networks.
        from monai.networks.nets.unet import UNet

        super().__init__()
        self.config = config
        self.network = UNet(
            spatial_dims=2,
            in_channels=config.in_channels,
            out_channels=config.num_classes,
            channels=config.channels,
            strides=(2,) * (len(config.channels) - 1),
            num_res_units=config.num_res_units,
        )

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        self.check_images(images)
        return self.network(images)


def check_deepest_map(image_size: tuple[int, int], reduction: int) -> None:
    """Raise where the deepest map has one pixel, whose variance is zero: instance normalization would fail.

    Args:
        image_size: ``(rows, columns)`` in pixels.
        reduction: Pixels that become one pixel of the deepest map, along each axis.

    Raises:
        GossamerError: ``E-CONFIG``, with the size to pad to.
    """
    rows, columns = image_size
    problem = f"image {rows}x{columns} has one pixel in the deepest map, too few to normalize"
    remedy = f"pad to {2 * reduction}x{2 * reduction}"
    require(rows * columns > reduction**2, "image_size", problem, remedy)


PRESETS = {"monai_unet": MonaiUNetConfig(in_channels=1)}

SMALL = {
    "monai_unet": MonaiUNetConfig(),
}
