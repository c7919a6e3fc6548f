"""The options of a comparison, as the user gave them, so that a resumed comparison can be checked against them."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.checks import require, require_at_least, require_positive
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import AttentionLike, attention_text
from gossamer.variants import PRECISIONS, USUAL_MECHANISMS, CostLimits, RuntimePrecision

_CHANGEABLE = ("data", "limits")


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """The options of a comparison. None leaves the choice to the recipe.

    Attributes:
        data: Path of a labelled data set.
        models: Names of presets (default: the usual preset of the task).
        attention: Attention mechanisms: names, references ``FILE.py:CLASS`` or JSON objects (default:
            ``USUAL_MECHANISMS``).
        seeds: Number of trials of each variant, with the seeds 0, 1, ... (default: 3).
        epochs: Number of epochs of every trial (default: chosen by the recipe).
        budget_minutes: Time to train the slowest variant once, in minutes; sets the number of epochs of all trials.
        image_size: Rows and columns of every network's input, in pixels (default: chosen from the data).
        batch_size: Number of images of a training step (default: chosen by the recipe).
        precisions: Precisions in which every variant is measured (default: all).
        max_drop: Largest allowed degradation of the metric in int8, 0 or more (default: 0.005).
        threads: Number of CPU threads.
        limits: Limits of latency and memory for the recommendation (default: none).

    Raises:
        GossamerError: ``E-CONFIG`` for a value out of range, or two options that exclude each other.
    """

    data: str
    models: tuple[str, ...] = ()
    attention: tuple[str, ...] = USUAL_MECHANISMS
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
        require_positive(self, "seeds", "epochs", "budget_minutes", "batch_size", "threads")
        require_at_least(self, 0, "max_drop")
        both = self.epochs is not None and self.budget_minutes is not None
        problem = "budget_minutes and epochs both set the length of the training"
        require(not both, "budget_minutes", problem, "give one of the two")
        for name in ("models", "attention", "precisions"):
            values = getattr(self, name)
            require(bool(values) or name == "models", name, "the list is empty", "name at least one, or omit it")
            repeated = next((value for value in values if values.count(value) > 1), None)
            require(repeated is None, name, f"{repeated} is repeated", "name each once")
        for precision in self.precisions:
            remedy = f"use one of {', '.join(PRECISIONS)}"
            require(precision in PRECISIONS, "precisions", f"{precision!r} is not a precision", remedy)

    def require_same(self, earlier: CompareRequest, where: Path) -> None:
        """Raise unless the comparison was started with the same options.

        The limits may change, since they decide what is recommended and not what is trained. The path of the data may
        change too; the data themselves are compared by their fingerprint.

        Args:
            earlier: Options that the comparison was started with.
            where: Folder of the comparison.

        Raises:
            GossamerError: ``E-CONFIG``, with every option that differs.
        """
        differing = [
            f"{option_name(each.name)} {_format_value(getattr(earlier, each.name))}, "
            f"now {_format_value(getattr(self, each.name))}"
            for each in dataclasses.fields(self)
            if each.name not in _CHANGEABLE and getattr(self, each.name) != getattr(earlier, each.name)
        ]
        if differing:
            problem = f"was started with {'; '.join(differing)}"
            raise GossamerError(ErrorCode.CONFIG, where, problem, "give the same options, or use another folder")

    def to_command(self, out: Path) -> str:
        """Return the command line that starts or resumes the comparison.

        Args:
            out: Folder of the comparison.
        """
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        limits, size = values.pop("limits"), values.pop("image_size")
        values |= {
            "image_size": None if size is None else "x".join(map(str, size)),
            "max_latency_ms": limits.latency_ms,
            "max_memory_mb": limits.memory_mb,
        }
        defaults = {each.name: each.default for each in dataclasses.fields(self)}
        words = ["gossamer", "compare", values.pop("data")]
        for name, value in values.items():
            if value is not None and value != () and value != defaults.get(name):
                words += [option_name(name), _format_value(value)]
        return shlex.join([*words, "--out", str(out)])


def name_mechanisms(attention: str | Iterable[AttentionLike]) -> tuple[str, ...]:
    """Return attention mechanisms as text that has the same meaning in any working folder and at any later time.

    Args:
        attention: Names, references, JSON objects or configs; or one text with commas between them.

    Raises:
        GossamerError: ``E-CONFIG`` for a value that is none of these; the errors of ``gossamer.extension.load_class``.
    """
    values = parse_names(attention) if isinstance(attention, str) else attention
    return tuple(attention_text(each) for each in values)


def parse_names(text: str, where: str = "") -> tuple[str, ...]:
    """Return the parts of a list with commas. Commas inside of braces belong to a JSON object.

    Args:
        text: Names with commas between them.
        where: Name of the parameter, which must then name something (default: an empty list is accepted).

    Raises:
        GossamerError: ``E-CONFIG`` for an empty list.
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    names = tuple(part.strip() for part in parts if part.strip())
    require(bool(names) or not where, where, f"{text!r} names nothing", "name at least one, or omit it")
    return names


def option_name(field_name: str) -> str:
    """Return the option of the command line that sets a field."""
    return "--" + field_name.replace("_", "-")


def _format_value(value: object) -> str:
    if value is None or value == ():
        return "default"
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
