"""How to train: every choice as a value, and the choices that do well without tuning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.decisions import Rule

Flips = Literal["none", "horizontal", "vertical", "both"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image, each drawn anew for each image and epoch.

    There are no flips by default: a mirrored chest has its heart on the wrong side, and a network must not learn that
    it does not matter. Where it does not, ask for them.

    Attributes:
        rotation_degrees: largest rotation to either side.
        scale: largest relative change of size.
        translation: largest shift, as a fraction of the side.
        contrast: largest relative change of contrast.
        brightness: largest shift of brightness, in standard deviations of the training images.
        noise: standard deviation of added Gaussian noise, in the same unit; half of the images get it.
        flips: which mirror images may be used.
        foreground: of the windows that are cut from larger slices, the share that must hold a pixel of some class.
    """

    rotation_degrees: float = 15.0
    scale: float = 0.15
    translation: float = 0.1
    contrast: float = 0.2
    brightness: float = 0.2
    noise: float = 0.05
    flips: Flips = "none"
    foreground: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """Everything that training depends on besides the data, the network and the seed.

    Attributes:
        epochs: passes over the training split; the learning rate is planned for all of them.
        batch_size: images of one step, over all processes.
        learning_rate: at its peak, for AdamW.
        final_learning_rate: at the end, as a fraction of the peak.
        warmup: fraction of the steps in which the rate rises linearly; then it falls along a cosine.
        weight_decay: of the weights of linear layers and convolutions; norms, biases, positions and tokens have none.
        clip_norm: gradients are scaled down to this norm.
        class_weights: ``balanced`` weighs each class by the inverse of its frequency, ``none`` does not.
        patience: epochs without a better validation metric after which training stops.
        precision: of the products in training; weights, statistics and evaluation stay in float32.
        loss: of segmentation, one of ``gossamer.training.losses``; classification has cross-entropy.
        recompute: whether transformer blocks keep their input alone and are evaluated again in the backward pass.
        draws: slices that an epoch of segmentation shows, of all that there are; None for all.
        augmentation: random changes of the images.
        thresholds: what the threshold of a label maximizes on the validation split, of classification.

    Raises:
        GossamerError: ``E-CONFIG``, for a number that makes no sense.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float = 0.01
    warmup: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    class_weights: Literal["balanced", "none"] = "balanced"
    patience: int = 20
    precision: Precision = "float32"
    loss: str = "cross_entropy"
    recompute: bool = False
    draws: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    thresholds: Rule = "f1"

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "learning_rate", "clip_norm", "patience"):
            if not getattr(self, key) > 0:
                raise GossamerError(
                    ErrorCode.CONFIG, key, f"{getattr(self, key)} is not positive", "use a positive number"
                )
        if not 0 <= self.warmup < 1:
            raise GossamerError(
                ErrorCode.CONFIG, "warmup", f"{self.warmup} is not in [0, 1)", "use a fraction, such as 0.1"
            )

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate at ``step`` of ``steps``, as a fraction of the peak."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return (step + 1) / rising
        progress = (step - rising) / max(1, steps - rising)
        return self.final_learning_rate + (1 - self.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * progress))


# The number of images that a network sees in training, over all epochs, and the epochs that it takes at least and at
# most.
IMAGES_SEEN = 24_000
FEWEST_EPOCHS, MOST_EPOCHS = 4, 50


def choose_recipe(training_images: int, *, fast_bfloat16: bool, epochs: int | None = None) -> Recipe:
    """Return the recipe for a training split of this size.

    It was tuned on validation splits: AdamW at 5e-4 with batches of 32. A small data set is passed over up to 50
    times, a large one less often, so that a network sees about 24,000 images.

    Args:
        training_images: size of the training split.
        fast_bfloat16: whether the processor multiplies bfloat16 natively; then products are in bfloat16.
        epochs: passes over the training split; chosen if left out.
    """
    if epochs is None:
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(IMAGES_SEEN / training_images)))
    return Recipe(
        epochs=epochs,
        batch_size=32,
        learning_rate=5e-4,
        patience=max(5, math.ceil(0.4 * epochs)),
        precision="bfloat16" if fast_bfloat16 else "float32",
    )


SLICES_SEEN = 32_000
SLICES_PER_EPOCH = 4_000
FEWEST_STEPS = 1_500
"""With fewer steps than these, batches are halved: the number of steps decides more than that of images."""


def choose_segmentation_recipe(
    slices: int, window: tuple[int, int], *, fast_bfloat16: bool, epochs: int | None = None
) -> Recipe:
    """Return the recipe of segmentation for this many training slices, seen through ``window``.

    It was tuned on validation splits: AdamW at 1e-3 without early stopping, since the schedule is planned to its end.
    A network sees about 32,000 slices of 64 x 64 pixels, or as many pixels of larger ones.

    Args:
        slices: of the training split, about.
        window: ``(rows, columns)`` of what the network sees.
        fast_bfloat16: whether the processor multiplies bfloat16 natively.
        epochs: of at most 4,000 slices; chosen if left out.
    """
    larger = max(1.0, math.prod(window) / 64**2)
    draws = min(slices, max(256, round(SLICES_PER_EPOCH / larger)))
    if epochs is None:
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(SLICES_SEEN / larger / draws)))
    return Recipe(
        epochs=epochs,
        batch_size=16 if larger < 4 and epochs * draws >= 16 * FEWEST_STEPS else 8,
        learning_rate=1e-3,
        weight_decay=0.01,
        class_weights="none",
        patience=epochs,
        precision="bfloat16" if fast_bfloat16 else "float32",
        loss="dice_ce",
        draws=draws if draws < slices else None,
    )


def choose_patch_size(image_size: tuple[int, int]) -> int:
    """Return the smallest patch of 4, 8, 16 or 32 pixels that divides both sides and gives at most 200 tokens.

    Raises:
        GossamerError: ``E-CONFIG``, where none divides them.
    """
    dividing = [patch for patch in (4, 8, 16, 32) if not any(side % patch for side in image_size)]
    if not dividing:
        problem = f"image {image_size[0]}x{image_size[1]} is a multiple of no patch of 4, 8, 16 or 32"
        padded = [math.ceil(side / 4) * 4 for side in image_size]
        raise GossamerError(
            ErrorCode.CONFIG, "image_size", problem, f"pad to {padded[0]}x{padded[1]}, or give a patch size"
        )
    return next((patch for patch in dividing if math.prod(side // patch for side in image_size) <= 200), dividing[-1])
