"""The recipe of segmentation, chosen from the size of the data."""

from __future__ import annotations

import math

from gossamer.training.recipe import Recipe

SLICES_SEEN = 32_000
"""Number of slices of 64 x 64 pixels that a network sees in training, over all epochs."""
SLICES_PER_EPOCH = 4_000
FEWEST_EPOCHS, MOST_EPOCHS = 4, 50
FEWEST_STEPS = 1_500
"""Number of steps below which batches are halved: the number of steps matters more than the number of images."""


def choose_recipe(slices: int, window: tuple[int, int], *, fast_bfloat16: bool, epochs: int | None = None) -> Recipe:
    """Return the recipe for this number of training slices, seen through a window.

    It was tuned on validation splits: AdamW at 1e-3 without early stopping, since the schedule is planned to its end.
    A network sees about 32,000 slices of 64 x 64 pixels, or as many pixels of larger ones.

    Args:
        slices: Approximate number of training slices.
        window: ``(rows, columns)`` of the network's input.
        fast_bfloat16: Whether the processor multiplies bfloat16 natively, so that products are computed in it.
        epochs: Number of epochs of at most 4,000 slices (default: chosen).
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
