"""Pixels to tokens: a linear map of each patch, or a stem of small convolutions.

The plain patch embedding is that of ViT (arXiv 2010.11929, section 3.1). The convolutional stem (after Xiao et al.,
"Early Convolutions Help Transformers See Better", arXiv 2106.14881) has four 3x3 convolutions, of which the last
``log2(patch_size)`` halve the resolution, and a 1x1 projection; it learns from far fewer images. Its normalization is
over groups of channels of one image, so that a result never depends on the batch.
"""

from __future__ import annotations

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.cost import Cost, convolution_cost

_CONVOLUTIONS = 4


class PatchEmbed(nn.Module):
    """Images to tokens and their grid.

    Args:
        stem: ``patch`` or ``convolutional``.
        patch_size: Side of a patch in pixels; a power of two up to 16 for the convolutional stem. Divides both sides
            of an image.
        in_channels: Channels of an image.
        dim: Width of a token.

    Raises:
        GossamerError: ``E-CONFIG``, for a patch size that the convolutional stem does not support.
    """

    def __init__(self, stem: str, patch_size: int, in_channels: int, dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        if stem == "patch":
            self.stem: nn.Module = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        else:
            self.stem = _convolutional_stem(patch_size, in_channels, dim)

    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, "batch tokens dim"], tuple[int, int]]:
        """Return the tokens in row-major order, and their grid."""
        features = self.stem(images)
        return features.flatten(2).transpose(1, 2), (features.shape[2], features.shape[3])

    def cost(self, image_size: tuple[int, int]) -> Cost:
        """Return the closed form of what one image costs."""
        rows, columns = image_size
        total = Cost()
        for layer in self.stem.modules():
            if isinstance(layer, nn.Conv2d):
                rows, columns = rows // layer.stride[0], columns // layer.stride[1]
                kernel = (layer.kernel_size[0], layer.kernel_size[1])
                total += convolution_cost(rows * columns, layer.in_channels, layer.out_channels, kernel)
        return total


def _convolutional_stem(patch_size: int, in_channels: int, dim: int) -> nn.Sequential:
    halvings = patch_size.bit_length() - 1
    if patch_size != 2**halvings or halvings > _CONVOLUTIONS:
        problem = f"a convolutional stem has no patches of {patch_size} pixels"
        raise GossamerError(ErrorCode.CONFIG, "patch_size", problem, 'use 1, 2, 4, 8 or 16, or stem="patch"')
    widths = [in_channels, dim // 8, dim // 4, dim // 2, dim]
    layers: list[nn.Module] = []
    for index, (width_in, width_out) in enumerate(pairwise(widths)):
        stride = 2 if index >= _CONVOLUTIONS - halvings else 1
        layers += [
            nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(math.gcd(8, width_out), width_out),
            nn.GELU(),
        ]
    return nn.Sequential(*layers, nn.Conv2d(dim, dim, 1))
