"""Random changes of training images, by MONAI's transforms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import RandGaussianNoise, RandScaleIntensity, RandShiftIntensity
from monai.transforms.spatial.array import RandAffine, RandFlip
from torch import Tensor

from gossamer.train.recipe import Augmentation


class Augmenter:
    """Applies an ``Augmentation`` to images of one size.

    Args:
        augmentation: what may change, and by how much.
        image_size: ``(rows, columns)``.
    """

    def __init__(self, augmentation: Augmentation, image_size: tuple[int, int]) -> None:
        a = augmentation
        steps: list[Any] = []
        if a.rotation_degrees or a.scale or a.translation:
            steps.append(
                RandAffine(
                    prob=1.0,
                    rotate_range=math.radians(a.rotation_degrees),
                    scale_range=(a.scale, a.scale),
                    translate_range=tuple(a.translation * side for side in image_size),
                    padding_mode="border",
                )
            )
        if a.flips in ("vertical", "both"):
            steps.append(RandFlip(prob=0.5, spatial_axis=0))
        if a.flips in ("horizontal", "both"):
            steps.append(RandFlip(prob=0.5, spatial_axis=1))
        if a.contrast:
            steps.append(RandScaleIntensity(a.contrast, prob=1.0))
        if a.brightness:
            steps.append(RandShiftIntensity(a.brightness, prob=1.0))
        if a.noise:
            steps.append(RandGaussianNoise(prob=0.5, std=a.noise))
        self._compose = Compose(steps)

    def __call__(
        self, image: Float[Tensor, "channels rows columns"], seed: np.random.SeedSequence
    ) -> Float[Tensor, "channels rows columns"]:
        """Return a changed copy of ``image``; equal seeds give equal changes."""
        self._compose.set_random_state(seed=int(seed.generate_state(1)[0]))
        tracked = get_track_meta()
        set_track_meta(False)  # geometry is not needed here, and following it takes a third of the time
        try:
            changed = self._compose(image)
        finally:
            set_track_meta(tracked)
        assert isinstance(changed, Tensor)
        return changed
