"""Which images a bundle takes: those whose channels and stored values are those of its training."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.data.image import Image
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.manifest import InputSpec


@dataclass(frozen=True)
class AcceptedImages(Preprocessing):
    """The preprocessing of a bundle, which refuses what the network was not trained for.

    Attributes:
        input: what the network is given.
    """

    input: InputSpec

    def __call__(self, image: Image) -> Image:
        """Return ``image`` after every step.

        Raises:
            GossamerError: ``E-VALUE`` where values are stored in another type, ``E-UNSUPPORTED`` where the channels are
                not as many, and what the steps raise.
        """
        wanted = self.input.stored
        if wanted is not None and image.array.dtype.name != wanted:
            problem = f"holds {image.array.dtype.name} values, the bundle takes {wanted}"
            raise GossamerError(
                ErrorCode.VALUE, image.source, problem, "convert it, so that the values share one scale"
            )
        prepared = super().__call__(image)
        if prepared.channels != self.input.channels:
            problem = f"has {prepared.channels} channels, the bundle takes {self.input.channels}"
            raise GossamerError(ErrorCode.UNSUPPORTED, image.source, problem, "convert the image, or train with it")
        return prepared
