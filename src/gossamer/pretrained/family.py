"""What a family of names is: which tensors of a published file become which of ours.

A family says how it is recognised, what the file's tensors tell about the network (image size, channels, classes), and
for each of our tensors the names that it is made of. Everything else, shapes and names above all, is checked in
``match_preset``, so that no tensor is dropped or invented without a reason that stands in the family's own table.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.models.base import NetworkConfig

Tensors = Mapping[str, Tensor]
COUNTER = "num_batches_tracked"
"""Of batch normalization: how often it was trained; the one tensor of whole numbers, which a file may lack."""


def concatenate_rows(*tensors: Tensor) -> Tensor:
    """Return the tensors one below the other; a single one as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


class Made(NamedTuple):
    """How one of our tensors is made.

    Attributes:
        names: of theirs.
        make: from the tensors of these names to ours.
        adapted: what ``make`` changes, in words; empty where values stay as they are.
    """

    names: tuple[str, ...]
    make: Callable[..., Tensor] = concatenate_rows
    adapted: str = ""


Rules = dict[str, Made]
"""From the names of our tensors."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """The names of one kind of published weights.

    Attributes:
        name: in ``FAMILIES``.
        title: for people.
        kind: config of the network that the weights are for.
        mark: regular expression of a name that every file of this family holds, and no other.
        described: from their tensors, a preset and the wanted image size or None to the fields that the file itself
            decides: ``image_size``, ``in_channels``, and ``num_classes`` where there is a classifier.
        rules: from their tensors and the config to how each of our tensors is made.
        classifier: beginning of the names of our classifier, the one part that may be missing.
        unneeded: regular expressions of names that our network has no place for, each with why nothing is lost.
        notes: what the reader of a report should know.
    """

    name: str
    title: str
    kind: type[NetworkConfig]
    mark: str
    described: Callable[[Tensors, Any, tuple[int, int] | None], dict[str, Any]]
    rules: Callable[[Tensors, Any], Rules]
    classifier: str = "classifier."
    unneeded: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def recognises(self, names: Mapping[str, Any]) -> bool:
        """Return whether the names are those of this family."""
        return any(re.fullmatch(self.mark, name) for name in names)

    def why_unneeded(self, name: str) -> str | None:
        """Return why a tensor of this name is left out; None where there is no reason to."""
        return next((reason for pattern, reason in self.unneeded.items() if re.fullmatch(pattern, name)), None)


class Fit(NamedTuple):
    """How a file fits a network.

    Attributes:
        config: of the network as the file has it, in its own image size, channels and classes.
        rules: for the tensors that the file holds.
        fresh: our tensors that the file has nothing for.
        left_out: their tensors that are not needed, with why.
    """

    config: NetworkConfig
    rules: Rules
    fresh: tuple[str, ...]
    left_out: dict[str, str]


def layer_rules(theirs: str, ours: str) -> Rules:
    """Return the rules of weight and bias of a layer that has both."""
    return {f"{ours}.{part}": Made((f"{theirs}.{part}",)) for part in ("weight", "bias")}


def joined_layers(theirs: tuple[str, ...], ours: str) -> Rules:
    """Return the rules of one layer of ours whose outputs are those of several of theirs, in this order."""
    return {f"{ours}.{part}": Made(tuple(f"{name}.{part}" for name in theirs)) for part in ("weight", "bias")}


def batch_norm(theirs: str, ours: str) -> Rules:
    """Return the rules of a batch normalization with its statistics."""
    return {
        f"{ours}.{part}": Made((f"{theirs}.{part}",))
        for part in ("weight", "bias", "running_mean", "running_var", COUNTER)
    }


def square_grid(count: int, name: str, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Return rows and columns of ``count`` positions: those wanted where they are as many, or a square.

    Args:
        count: positions of the grid.
        name: of the tensor, for the error.
        wanted: rows and columns that were asked for.

    Raises:
        GossamerError: ``E-GEOMETRY``, where the positions are of no square and of no grid that was asked for.
    """
    side = math.isqrt(count)
    if side * side == count and count:
        return side, side
    if wanted is not None and math.prod(wanted) == count:
        return wanted
    problem = f"holds {count} positions of a grid, which is no square"
    raise GossamerError(ErrorCode.GEOMETRY, name, problem, "say the file's own --image-size")


def size_of(tensors: Tensors, name: str, axis: int, axes: int) -> int:
    """Return the length of one axis of a tensor.

    Raises:
        GossamerError: ``E-MISSING``, where it is not there; ``E-VALUE``, where it has another number of axes.
    """
    if name not in tensors:
        raise GossamerError(ErrorCode.MISSING, name, "is not in the file", "use the whole file as it was published")
    shape = tuple(tensors[name].shape)
    if len(shape) != axes:
        raise GossamerError(ErrorCode.VALUE, name, f"holds {shape}, {axes} axes are needed", "check what the file is")
    return shape[axis]


def match_preset(family: Family, tensors: Tensors, preset: NetworkConfig, image_size: tuple[int, int] | None) -> Fit:
    """Return how the tensors of a file fit a preset; nothing is computed, only names and shapes are compared.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for a name that the family does not know, ``E-MISSING`` for one that is not
            there, ``E-VALUE`` for another shape, ``E-GEOMETRY`` or ``E-CONFIG`` for an image size that does not fit.
    """
    config = dataclasses.replace(preset, **family.described(tensors, preset, image_size))
    rules = family.rules(tensors, config)
    present = {ours: made for ours, made in rules.items() if all(name in tensors for name in made.names)}
    has_classifier = any(ours.startswith(family.classifier) for ours in present)

    def optional(ours: str) -> bool:
        return ours.endswith(COUNTER) or (ours.startswith(family.classifier) and not has_classifier)

    for ours, made in rules.items():
        if ours not in present and not optional(ours):
            lacking = next(name for name in made.names if name not in tensors)
            raise GossamerError(ErrorCode.MISSING, lacking, f"is not there; our {ours} needs it", "use the whole file")
    known = {name for made in rules.values() for name in made.names}
    left_out = {name: why for name in tensors if name not in known and (why := family.why_unneeded(name))}
    _refuse([name for name in tensors if name not in known and name not in left_out], family, config)
    with torch.device("meta"):  # names and shapes are enough
        wanted = {name: tuple(tensor.shape) for name, tensor in config.build().state_dict().items()}
    _refuse([name for ours, made in present.items() if ours not in wanted for name in made.names], family, config)
    fresh = tuple(ours for ours in wanted if ours not in present)
    for ours in fresh:
        if not optional(ours):
            raise GossamerError(ErrorCode.MISSING, family.title, f"has nothing for our {ours}", "use another --model")
    for ours, made in present.items():
        _check_shape(ours, made, tensors, wanted[ours])
    return Fit(config, present, fresh, left_out)


def _refuse(names: list[str], family: Family, config: NetworkConfig) -> None:
    """Raise unless there are no names that lack a place."""
    if names:
        problem = f"{len(names)} tensors have no place in {config.name}: {', '.join(names[:3])}"
        remedy = "use a file of the plain network; without them the result would be another function"
        raise GossamerError(ErrorCode.UNSUPPORTED, family.title, problem, remedy)


def _check_shape(ours: str, made: Made, tensors: Tensors, wanted: tuple[int, ...]) -> None:
    shapes = [tuple(tensors[name].shape) for name in made.names]
    try:
        found = tuple(made.make(*(tensors[name].to("meta") for name in made.names)).shape)
    except (RuntimeError, IndexError):
        found = None
    if found != wanted:
        held = " and ".join(map(str, shapes))
        problem = f"{' and '.join(made.names)} holds {held}, our {ours} needs {wanted}"
        raise GossamerError(ErrorCode.VALUE, made.names[0], problem, "check which network the file is of")
