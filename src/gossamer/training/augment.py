"""Augmentation: random changes of training images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import RandGaussianNoise, RandScaleIntensity, RandShiftIntensity
from monai.transforms.spatial.array import RandAffine, RandFlip
from torch import Tensor

from gossamer.training.recipe import Augmentation


class Augmenter:
    """Applies an ``Augmentation`` to images of one size, with MONAI's transforms.

    Args:
        augmentation: Kinds and largest amounts of changes.
        image_size: ``(rows, columns)``.
    """

    def __init__(self, augmentation: Augmentation, image_size: tuple[int, int]) -> None:
        steps: list[Any] = []
        if _changes_geometry(augmentation):
            steps.append(RandAffine(prob=1.0, padding_mode="border", **_affine_ranges(augmentation, image_size)))
        steps += [RandFlip(prob=0.5, spatial_axis=axis) for axis in _flipped_axes(augmentation)]
        self._compose = Compose(steps + _intensity_steps(augmentation))

    def __call__(
        self, image: Float[Tensor, "channels rows columns"], seed: np.random.SeedSequence
    ) -> Float[Tensor, "channels rows columns"]:
        """Return a changed copy of ``image``; equal seeds give equal changes."""
        self._compose.set_random_state(seed=int(seed.generate_state(1)[0]))
        with _without_geometry():
            changed = self._compose(image)
        assert isinstance(changed, Tensor)
        return changed


class MaskAugmenter:
    """Applies an ``Augmentation`` to an image and its mask; geometric changes to both, the mask by the nearest pixel.

    Written with torch's own resampling: for the small windows of segmentation MONAI's dictionary transforms take as
    long as the training step itself.

    Args:
        augmentation: Kinds and largest amounts of changes.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation

    def __call__(
        self,
        image: Float[Tensor, "channels rows columns"],
        mask: Float[Tensor, "maps rows columns"],
        seed: np.random.SeedSequence,
    ) -> tuple[Float[Tensor, "channels rows columns"], Float[Tensor, "maps rows columns"]]:
        """Return changed copies of ``image`` and ``mask``; equal seeds give equal changes."""
        a, generator = self.augmentation, np.random.default_rng(seed)
        if _changes_geometry(a):
            theta = self._draw_map(generator, image.shape[1] / image.shape[2])
            grid = F.affine_grid(theta, [1, 1, *image.shape[1:]], align_corners=False)
            image = F.grid_sample(image[None], grid, "bilinear", "border", align_corners=False)[0]
            mask = F.grid_sample(mask[None], grid, "nearest", "border", align_corners=False)[0]
        turned = [axis - 2 for axis in _flipped_axes(a) if generator.random() < 0.5]
        if turned:
            image, mask = torch.flip(image, turned), torch.flip(mask, turned)
        gain, offset = 1 + a.contrast * generator.uniform(-1, 1), a.brightness * generator.uniform(-1, 1)
        image = image * gain + offset
        if a.noise and generator.random() < 0.5:
            image = image + a.noise * torch.from_numpy(generator.standard_normal(image.shape, dtype=np.float32))
        return image, mask

    def _draw_map(self, generator: np.random.Generator, aspect: float) -> Float[Tensor, "1 2 3"]:
        """Return a random map from a position in the changed image to one in the given image.

        Args:
            generator: Source of the random numbers.
            aspect: Rows divided by columns; rotations are defined in pixels, but both axes of the map run from -1 to 1.
        """
        a = self.augmentation
        angle = math.radians(a.rotation_degrees) * generator.uniform(-1, 1)
        down, across = 1 + a.scale * generator.uniform(-1, 1, 2)
        shift = 2 * a.translation * generator.uniform(-1, 1, 2)
        cosine, sine = math.cos(angle), math.sin(angle)
        rows = [[across * cosine, -down * sine * aspect, shift[0]], [across * sine / aspect, down * cosine, shift[1]]]
        return torch.tensor([rows], dtype=torch.float32)


def _changes_geometry(a: Augmentation) -> bool:
    return bool(a.rotation_degrees or a.scale or a.translation)


def _affine_ranges(a: Augmentation, image_size: tuple[int, int]) -> dict[str, Any]:
    return {
        "rotate_range": math.radians(a.rotation_degrees),
        "scale_range": (a.scale, a.scale),
        "translate_range": tuple(a.translation * side for side in image_size),
    }


def _flipped_axes(a: Augmentation) -> list[int]:
    return [axis for axis, name in enumerate(("vertical", "horizontal")) if a.flips in (name, "both")]


def _intensity_steps(a: Augmentation) -> list[Any]:
    steps: list[Any] = []
    if a.contrast:
        steps.append(RandScaleIntensity(a.contrast, prob=1.0))
    if a.brightness:
        steps.append(RandShiftIntensity(a.brightness, prob=1.0))
    if a.noise:
        steps.append(RandGaussianNoise(prob=0.5, std=a.noise))
    return steps


@contextmanager
def _without_geometry() -> Iterator[None]:
    """Keep MONAI from tracking geometry, which is not needed here and takes a third of the time."""
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)
