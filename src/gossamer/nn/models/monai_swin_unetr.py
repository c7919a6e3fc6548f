"""MONAI's SwinUNETR (Hatamizadeh et al., arXiv 2201.01266) in two dimensions, an outside reference with attention.

The network is MONAI's own: a Swin transformer with 7x7 shifted windows as the encoder, and residual convolutions as the
decoder. Its attention mechanism is not one of Gossamer's and cannot be exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require, require_at_least, require_fraction
from gossamer.nn.cost import Cost
from gossamer.nn.layers.traced_cost import trace_cost
from gossamer.nn.models.base import InputRequirements, Segmenter, SegmenterConfig
from gossamer.nn.models.monai_unet import check_deepest_map


@dataclass(frozen=True, kw_only=True)
class MonaiSwinUNETRConfig(SegmenterConfig):
    """Parameters of MONAI's SwinUNETR.

    Attributes:
        feature_size: Channels of the first level, a multiple of 12; the deepest of five has 16 times as many.
        depths: Transformer blocks of the four stages.
        drop_path: Probability of stochastic depth in the last block, in [0, 1); rises linearly from 0 in the first.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range, or for an image that is one pixel in the last level.
    """

    feature_size: int = 12
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    drop_path: float = 0.0
    name: ClassVar[str] = "monai_swin_unetr"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        # Windows are padded, shifted and masked by Python that reads the size at every step: not traced in 10 minutes.
        return InputRequirements(multiple=32, traceable_sizes=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        problem = f"{self.feature_size} is not a positive multiple of 12"
        whole = self.feature_size >= 1 and self.feature_size % 12 == 0
        require(whole, "feature_size", problem, "use 12, 24 or 48")
        require_at_least(self, 1, "depths")
        require_fraction(self, "drop_path")

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise unless the network takes images of this size.

        Raises:
            GossamerError: ``E-CONFIG``, with the size to pad to.
        """
        super().check_image_size(image_size)
        check_deepest_map(image_size, self.input_requirements.multiple)

    def build(self) -> MonaiSwinUNETR:
        """Return the network with fresh weights."""
        return MonaiSwinUNETR(self)


class MonaiSwinUNETR(Segmenter):
    """MONAI's SwinUNETR."""

    config: MonaiSwinUNETRConfig

    def __init__(self, config: MonaiSwinUNETRConfig) -> None:
        # MONAI takes a second to import, and every command imports the table of networks.
        from monai.networks.nets.swin_unetr import SwinUNETR

        super().__init__()
        self.config = config
        device = torch.get_default_device()
        # Its constructor reads values from a tensor, which has none on the meta device.
        with torch.device("cpu"):
            network = SwinUNETR(
                in_channels=config.in_channels,
                out_channels=config.num_classes,
                depths=config.depths,
                feature_size=config.feature_size,
                dropout_path_rate=config.drop_path,
                spatial_dims=2,
            )
        self.network = network.to(device)

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits."""
        self.check_images(images)
        return self.network(images)

    def cost(self, image_size: tuple[int, int] | None = None) -> Cost:
        """Return the closed form of what one image costs: layers, and two products for each window of attention."""
        from monai.networks.nets.swin_unetr import WindowAttention

        products: list[Cost] = []

        def add(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            windows, tokens, dim = output.shape
            weights = windows * layer.num_heads * tokens**2
            macs = 2 * windows * tokens**2 * dim
            products.append(Cost(macs=macs, exponentials=weights, largest_intermediate=weights))

        with torch.device("meta"):
            network = self.config.build().eval()
        for module in network.modules():
            if isinstance(module, WindowAttention):
                module.register_forward_hook(add)
        layers = trace_cost(network, (self.config.in_channels, *(image_size or self.config.image_size)))
        return sum(products, layers)


PRESETS = {"monai_swin_unetr": MonaiSwinUNETRConfig(in_channels=1)}

SMALL = {
    "monai_swin_unetr": MonaiSwinUNETRConfig(),
}
