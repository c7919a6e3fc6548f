"""The recipe of a training: every number that it depends on besides data, network and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from gossamer.checks import require_fraction, require_positive
from gossamer.inference.decisions import Rule

Flips = Literal["none", "horizontal", "vertical", "both"]
Precision = Literal["float32", "bfloat16"]
ClassWeights = Literal["balanced", "none"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image, each drawn anew for each image and epoch.

    There are no flips by default: a mirrored chest has its heart on the wrong side, and a network must not learn that
    the side does not matter. Choose flips where it does not.

    Attributes:
        rotation_degrees: Largest rotation to either side, in degrees.
        scale: Largest relative change of size.
        translation: Largest shift, as a fraction of the side.
        contrast: Largest relative change of contrast.
        brightness: Largest shift of brightness, in standard deviations of the training images.
        noise: Standard deviation of Gaussian noise, in standard deviations of the training images; added to half of the
            images.
        flips: Mirror images that may be used.
        foreground: Share of the windows cut from larger slices that must contain a pixel of some class.
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
        epochs: Number of passes over the training split, for which the learning rate is planned.
        batch_size: Number of images in a step, over all processes.
        learning_rate: Peak learning rate of AdamW.
        final_learning_rate: Learning rate of the last step, as a fraction of the peak.
        warmup: Fraction of the steps in which the learning rate rises linearly; afterwards it falls along a cosine.
        weight_decay: Weight decay of linear layers and convolutions; norms, biases, positions and tokens have none.
        clip_norm: Norm to which larger gradients are scaled down.
        class_weights: Weighting of classes in the loss; ``balanced`` weights by inverse frequency.
        patience: Number of epochs without improvement after which training stops.
        precision: Compute precision of matrix products during training; weights, statistics and evaluation are always
            float32.
        loss: Loss of segmentation, a key of ``gossamer.training.losses.LOSSES``; classification uses cross-entropy.
        recompute: Whether transformer blocks keep only their input and are evaluated again in the backward pass.
        draws: Number of slices in an epoch of segmentation (default: all).
        augmentation: Random changes of the training images.
        thresholds: Criterion that the thresholds of labels maximize on the validation split, in classification.

    Raises:
        GossamerError: ``E-CONFIG`` for a number outside of its range.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float = 0.01
    warmup: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    class_weights: ClassWeights = "balanced"
    patience: int = 20
    precision: Precision = "float32"
    loss: str = "cross_entropy"
    recompute: bool = False
    draws: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    thresholds: Rule = "f1"

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate", "clip_norm", "patience")
        require_fraction(self, "warmup")

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate at ``step`` of ``steps``, as a fraction of the peak."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return (step + 1) / rising
        progress = (step - rising) / max(1, steps - rising)
        return self.final_learning_rate + (1 - self.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * progress))
