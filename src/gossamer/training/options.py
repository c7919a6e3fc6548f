"""What a user asks of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gossamer.errors import ErrorCode, GossamerError
from gossamer.task import TaskName
from gossamer.training.recipe import Flips, Precision

if TYPE_CHECKING:
    from gossamer.nn.attention import AttentionLike


@dataclass(frozen=True)
class TrainOptions:
    """What a user asks for; None leaves the choice to the recipe.

    Attributes:
        task: ``classify`` or ``segment``; what the data are labelled for if left out.
        model: a preset; ``vit_tiny`` for classification and ``transunet_small`` for segmentation if left out.
        attention: Attention mechanism: a name, a class in a file such as ``./mine.py:MyConfig``, a JSON object with
            its parameters, or a config (default: ``sequence_norm`` for classification, the preset's own for
            segmentation).
        init: folder of a run or of imported weights, whose network and weights training starts from.
        query: what takes the place of queries where ``attention`` has none and that of ``init`` has: ``key``, the
            projection of the keys, or ``mean``, that of both.
        image_size: ``(rows, columns)`` of the network's input.
        patch_size: side of a patch in pixels.
        stem: ``patch`` or ``convolutional``.
        epochs: passes over the training split.
        batch_size: images of a step, over all processes.
        learning_rate: peak of the schedule.
        patience: epochs without improvement before training stops.
        precision: of products in training.
        flips: which mirror images are allowed in training.
        class_weights: ``balanced`` or ``none``, of classification.
        thresholds: ``f1`` or ``youden``: what the thresholds of labels maximize, of classification.
        recompute: whether blocks are evaluated again in the backward pass, to save memory; where it is needed if left
            out.
        stack: neighbouring slices of a volume that are seen together, of segmentation.
        loss: of segmentation.
        seed: of everything random.

    Raises:
        GossamerError: ``E-CONFIG`` for a negative seed, or for what weights to start from have decided already.
    """

    task: TaskName | None = None
    model: str | None = None
    attention: AttentionLike | None = None
    init: Path | None = None
    query: Literal["key", "mean"] | None = None
    image_size: tuple[int, int] | None = None
    patch_size: int | None = None
    stem: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    patience: int | None = None
    precision: Precision | None = None
    flips: Flips | None = None
    class_weights: str | None = None
    thresholds: str | None = None
    recompute: bool | None = None
    stack: int | None = None
    loss: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise GossamerError(ErrorCode.CONFIG, "seed", f"{self.seed} is negative", "use 0 or more")
        for key in ("model", "patch_size", "stem"):
            if self.init is not None and getattr(self, key) is not None:
                problem = f"is {getattr(self, key)}, but {self.init} brings its own network"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "leave it out, or leave --init out")
        if self.query is not None and (self.init is None or self.attention is None):
            problem = "is about weights that change their mechanism"
            raise GossamerError(ErrorCode.CONFIG, "query", problem, "give --init and --attention too, or leave it out")
