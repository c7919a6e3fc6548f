"""Grey and colour images to one number of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gossamer.checks import require
from gossamer.data.image import Image
from gossamer.errors import ErrorCode, GossamerError


@dataclass(frozen=True)
class Channels:
    """Give an image ``count`` channels: grey is repeated for colour, and colour with equal channels becomes grey.

    Attributes:
        count: Number of channels, 1 or more.

    Raises:
        GossamerError: ``E-CONFIG`` for a count below 1, when the step is made; ``E-UNSUPPORTED`` for a coloured image
            if ``count`` is 1, and for a grey one if it is 2 or more than 3: those channels are different measurements.
    """

    count: int
    name: ClassVar[str] = "channels"

    def __post_init__(self) -> None:
        require(self.count >= 1, f"{self.name}.count", f"{self.count} is less than 1", "use 1 or more")

    def __call__(self, image: Image) -> Image:
        """Return ``image`` with ``count`` channels."""
        array = image.array
        if image.channels == self.count:
            return image.with_array(array[..., 0]) if "channels" in image.axes and self.count == 1 else image
        if image.channels == 1 and self.count == 3:
            grey = array[..., 0] if "channels" in image.axes else array
            return image.with_array(np.repeat(grey[..., None], self.count, axis=-1))
        if self.count == 1 and np.all(array == array[..., :1]):
            return image.with_array(array[..., 0])
        raise GossamerError(
            ErrorCode.UNSUPPORTED,
            image.source,
            f"has {image.channels} channel{'s' if image.channels > 1 else ''}, the network takes {self.count}",
            "convert the image, or train with it",
        )
