"""MONAI's residual UNet (Kerfoot et al., STACOM 2018), the outside reference of the comparisons.

The network is MONAI's own, with the sizes of its examples: five levels, strided convolutions down, transposed ones up,
two residual units a level, instance normalization and PReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.models.base import InputRequirements, Segmenter, SegmenterConfig


@dataclass(frozen=True, kw_only=True)
class MonaiUNetConfig(SegmenterConfig):
    """Parameters of MONAI's UNet.

    Attributes:
        channels: of the five levels; each level has half the resolution of the one above.
        num_res_units: convolutions of a residual unit.

    Raises:
        GossamerError: ``E-CONFIG``, for a number less than 1, or an image that the last level sees as one pixel.
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
        for key, value in (("channels", min(self.channels)), ("num_res_units", self.num_res_units)):
            if value < 1:
                raise GossamerError(ErrorCode.CONFIG, key, f"{value} is less than 1", "use positive numbers")

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
        # MONAI takes a second to import, and every verb imports the table of networks.
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
    """Raise where instance normalization would meet a map of one pixel, whose variance is zero.

    Args:
        image_size: ``(rows, columns)`` in pixels.
        reduction: pixels that become one pixel of the deepest map, along each axis.

    Raises:
        GossamerError: ``E-CONFIG``, with the size to pad to.
    """
    rows, columns = image_size
    if rows * columns <= reduction**2:
        problem = f"image {rows}x{columns} has one pixel in the deepest map, too few to normalize"
        raise GossamerError(ErrorCode.CONFIG, "image_size", problem, f"pad to {2 * reduction}x{2 * reduction}")


PRESETS = {"monai_unet": MonaiUNetConfig(in_channels=1)}
