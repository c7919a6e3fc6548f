"""The recipe of classification, chosen from the size of the data."""

from __future__ import annotations

import math

from gossamer.errors import ErrorCode, GossamerError
from gossamer.training.recipe import Recipe

IMAGES_SEEN = 24_000
"""Number of images that a network sees in training, over all epochs."""
FEWEST_EPOCHS, MOST_EPOCHS = 4, 50
MOST_TOKENS = 200
"""Number of tokens above which a larger patch is chosen."""


def choose_recipe(training_images: int, *, fast_bfloat16: bool, epochs: int | None = None) -> Recipe:
    """Return the recipe for a training split of this size.

    It was tuned on validation splits: AdamW at 5e-4 with batches of 32. A small data set is passed over up to 50
    times, a large one less often, so that a network sees about 24,000 images.

    Args:
        training_images: Number of training images.
        fast_bfloat16: Whether the processor multiplies bfloat16 natively, so that products are computed in it.
        epochs: Number of passes over the training split (default: chosen).
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


def choose_patch_size(image_size: tuple[int, int]) -> int:
    """Return the smallest patch of 4, 8, 16 or 32 pixels that divides both sides and gives at most 200 tokens.

    Raises:
        GossamerError: ``E-CONFIG`` if none divides both sides.
    """
    dividing = [patch for patch in (4, 8, 16, 32) if not any(side % patch for side in image_size)]
    if not dividing:
        problem = f"{image_size[0]}x{image_size[1]} is not a multiple of a patch of 4, 8, 16 or 32 pixels"
        rows, columns = (math.ceil(side / 4) * 4 for side in image_size)
        raise GossamerError(ErrorCode.CONFIG, "image_size", problem, f"use {rows}x{columns}, or give a patch size")
    fitting = (patch for patch in dividing if math.prod(side // patch for side in image_size) <= MOST_TOKENS)
    return next(fitting, dividing[-1])
