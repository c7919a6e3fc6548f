"""What a user asks of a comparison, as it was typed, so that a second call can be held against the first."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.errors import ErrorCode, GossamerError
from gossamer.quantization.drop import require_drop
from gossamer.variants import PRECISIONS, CostLimits, RuntimePrecision

MECHANISMS = ("softmax", "sequence_norm", "kv")
"""Where none are named."""
_MAY_CHANGE = ("data", "limits")


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """What a user asks for; None leaves the choice to the recipe.

    Attributes:
        data: a data set.
        models: presets; none for the default of the task.
        attention: mechanisms, by name or as JSON objects.
        seeds: how many trainings of each variant; their seeds count from 0.
        epochs: of every trial.
        budget_minutes: of the training of the slowest trial, from which the epochs of all follow.
        image_size: ``(rows, columns)`` of every network's input.
        batch_size: images of a step.
        precisions: in which every variant is measured.
        max_drop: of the metric that int8 may cost.
        threads: of the processor.
        limits: of the machine on which the network shall run.

    Raises:
        GossamerError: ``E-CONFIG`` for a number that makes no sense, or two that contradict each other.
    """

    data: str
    models: tuple[str, ...] = ()
    attention: tuple[str, ...] = MECHANISMS
    seeds: int = 3
    epochs: int | None = None
    budget_minutes: float | None = None
    image_size: tuple[int, int] | None = None
    batch_size: int | None = None
    precisions: tuple[RuntimePrecision, ...] = PRECISIONS
    max_drop: float = 0.005
    threads: int
    limits: CostLimits = field(default_factory=CostLimits)

    def __post_init__(self) -> None:
        for key in ("seeds", "epochs", "budget_minutes", "batch_size", "threads"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise GossamerError(
                    ErrorCode.CONFIG, _option_name(key), f"{value} is not above 0", "give a positive number"
                )
        require_drop(self.max_drop)
        if self.epochs is not None and self.budget_minutes is not None:
            problem = "and --epochs both say how long a trial is trained"
            raise GossamerError(ErrorCode.CONFIG, "--budget-minutes", problem, "give one of them")
        for key in ("models", "attention", "precisions"):
            values = getattr(self, key)
            if not values and key != "models":
                raise GossamerError(ErrorCode.CONFIG, _option_name(key), "names nothing", "name one, or leave it out")
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise GossamerError(ErrorCode.CONFIG, _option_name(key), f"{twice} is named twice", "name each once")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                remedy = f"choose from {', '.join(PRECISIONS)}"
                raise GossamerError(ErrorCode.CONFIG, "--precisions", f"there is no {precision!r}", remedy)

    def require_same(self, earlier: CompareRequest, where: Path) -> None:
        """Raise unless this is what was asked when the comparison was begun.

        The limits may change: they decide what is recommended, not what is trained. So may the place of the data, whose
        fingerprint is compared instead.

        Raises:
            GossamerError: ``E-CONFIG``, with every option that differs.
        """
        differing = [
            f"{_option_name(field.name)} {_format_value(getattr(earlier, field.name))}, "
            f"now {_format_value(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if field.name not in _MAY_CHANGE and getattr(self, field.name) != getattr(earlier, field.name)
        ]
        if differing:
            problem = f"was begun with {'; '.join(differing)}"
            raise GossamerError(ErrorCode.CONFIG, where, problem, "give the same options, or another --out")


def parse_names(text: str, option: str = "") -> tuple[str, ...]:
    """Return the parts of a list with commas; commas inside of braces belong to a JSON object.

    Args:
        text: as it was typed.
        option: that it was typed for, where it must name something.

    Raises:
        GossamerError: ``E-CONFIG`` where it must and does not.
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    names = tuple(part.strip() for part in parts if part.strip())
    if option and not names:
        raise GossamerError(ErrorCode.CONFIG, option, f"{text!r} names nothing", "name one, or leave it out")
    return names


def _option_name(key: str) -> str:
    return "--" + key.replace("_", "-")


def _format_value(value: object) -> str:
    if value is None or value == ():
        return "left out"
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
