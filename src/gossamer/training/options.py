"""The options of a training run, in Python and on the command line.

Annotations are not postponed in this module: the command line inherits the fields and reads their types.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from gossamer.arguments import parse_size
from gossamer.config import suggest_nearest
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.decisions import Rule
from gossamer.task import TaskName
from gossamer.training.recipe import ClassWeights, Flips, Precision

Query = Literal["key", "mean"]
Stem = Literal["patch", "convolutional"]
LossName = Literal["dice_ce", "dice_ce_squared", "cross_entropy", "dice"]


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training run. The recipe chooses every option that is None from the data.

    Attributes:
        task: Task to train for, classify or segment (default: the one that the data is labelled for).
        model: Name of a preset, listed by gossamer models (default: vit_tiny to classify, transunet_small to segment).
        attention: Attention mechanism: a name listed by gossamer models, JSON such as '{"name": "soft", "inverse":
            "cholesky"}', or a class in a file such as ./mine.py:MyConfig (default: sequence_norm in a Vision
            Transformer, otherwise the preset's own).
        init: Folder of a run or of imported weights to start from; with an attention mechanism, the weights are
            converted to it (default: fresh weights).
        query: Source of the queries when the initial weights have none for the mechanism: the key projection, or the
            mean of query and key projection (default: key).
        image_size: Rows x columns of the network's input, such as 224x224; in segmentation, size of the window
            (default: chosen from the images).
        patch_size: Side of a patch in pixels (default: chosen from the image size).
        stem: Conversion of pixels into tokens, by the published patch embedding or by four convolutions (default:
            convolutional in a Vision Transformer with fewer than 100,000 training images).
        epochs: Number of passes over the training split (default: chosen from its size).
        batch_size: Number of images in a step, over all processes (default: chosen by the recipe).
        learning_rate: Peak learning rate of AdamW (default: chosen by the recipe).
        patience: Number of epochs without improvement after which training stops (default: chosen by the recipe).
        precision: Compute precision of matrix products during training (default: bfloat16 where the processor
            multiplies it natively).
        flips: Mirror images used for augmentation (default: none, since left and right can matter).
        class_weights: Weighting of classes in the loss of classification; balanced weights by inverse frequency
            (default: balanced).
        thresholds: Criterion that the decision thresholds of classification maximize on the validation split
            (default: f1).
        recompute: Whether blocks are evaluated again in the backward pass to save memory (default: only when memory
            is short).
        stack: Number of neighbouring slices of a volume seen together in segmentation, odd (default: 3 for volumes,
            1 for pictures).
        loss: Loss of segmentation (default: dice_ce).
        seed: Seed of splits, initial weights, order and augmentation, 0 or more (default: 0).

    Raises:
        GossamerError: ``E-CONFIG`` for a negative seed, an image size that is not rows x columns, or an option that
            contradicts ``init``.
    """

    task: TaskName | None = None
    model: str | None = None
    attention: Any = None
    init: Path | None = None
    query: Query | None = None
    image_size: str | tuple[int, int] | None = None
    patch_size: int | None = None
    stem: Stem | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    patience: int | None = None
    precision: Precision | None = None
    flips: Flips | None = None
    class_weights: ClassWeights | None = None
    thresholds: Rule | None = None
    recompute: bool | None = None
    stack: int | None = None
    loss: LossName | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:  # None: not typed on the command line
            raise GossamerError(ErrorCode.CONFIG, "seed", f"{self.seed} is negative", "use 0 or more")
        if self.seed is not None and self.seed >= 2**63:
            raise GossamerError(ErrorCode.CONFIG, "seed", f"{self.seed} is too large", "use less than 2**63")
        for key in ("model", "patch_size", "stem"):
            if self.init is not None and getattr(self, key) is not None:
                problem = f"{getattr(self, key)} contradicts {self.init}, which defines the network"
                raise GossamerError(ErrorCode.CONFIG, key, problem, f"omit {key} or init")
        if self.query is not None and (self.init is None or self.attention is None):
            problem = "applies only to initial weights that change their attention mechanism"
            raise GossamerError(ErrorCode.CONFIG, "query", problem, "give init and attention too, or omit query")
        parse_size(self.image_size)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """``(rows, columns)`` of ``image_size``; None if the recipe chooses."""
        return parse_size(self.image_size)

    def given(self, *names: str) -> dict[str, Any]:
        """Return the options of these names that are not None."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def read_options(values: Mapping[str, Any]) -> TrainOptions:
    """Return the options that keyword arguments describe.

    Raises:
        GossamerError: ``E-CONFIG`` for an unknown name or a value that the option does not take.
    """
    known = [field.name for field in dataclasses.fields(TrainOptions)]
    for name in values:
        if name not in known:
            problem = "is not an option of training"
            raise GossamerError(ErrorCode.CONFIG, name, problem, suggest_nearest(name, known))
    return TrainOptions(**{name: _read_value(name, value) for name, value in values.items()})


def _read_value(name: str, value: Any) -> Any:
    from pydantic import ValidationError

    try:
        return _type_adapter(name).validate_python(value)
    except ValidationError as error:
        allowed = error.errors()[0]["msg"].removeprefix("Input should be ")
        problem = f"{value!r} is not allowed"
        raise GossamerError(ErrorCode.CONFIG, name, problem, f"use {allowed}") from error


@cache
def _type_adapter(name: str) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(get_type_hints(TrainOptions)[name])
