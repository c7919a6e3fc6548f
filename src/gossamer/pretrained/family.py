"""Families of published weights: which tensors of a file become which tensors of a network of ours.

A family states how it is recognized, what the tensors of a file determine about the network (image size, channels,
classes), and, for each of our tensors, the names that it is made from. ``match_preset`` checks everything else, names
and shapes above all, so that no tensor is dropped or invented without a reason in the family's own table.
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
"""Counter of the training steps of a batch normalization: the one tensor of whole numbers, which a file may lack."""
HEADS = "the file does not state the number of heads; that of the preset is used"
"""Note of families whose tensors have the same shapes for any number of heads."""


def concatenate_rows(*tensors: Tensor) -> Tensor:
    """Return the tensors concatenated along their first axis; a single tensor unchanged."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


class TensorRule(NamedTuple):
    """Rule that makes one of our tensors.

    Attributes:
        names: Names of the tensors of the file that it is made from.
        make: Function from these tensors to ours (default: concatenation of rows).
        adapted: Description of what ``make`` changes; empty if values stay as they are.
    """

    names: tuple[str, ...]
    make: Callable[..., Tensor] = concatenate_rows
    adapted: str = ""


TensorRules = dict[str, TensorRule]
"""Rules by the names of our tensors."""


@dataclass(frozen=True, kw_only=True)
class WeightFamily:
    """Published weights that share one scheme of names.

    Attributes:
        name: Key in ``FAMILIES``.
        title: Name for people.
        network: Config class of the network that the weights are for.
        mark: Regular expression of a name that every file of this family holds, and no other file.
        read_fields: Function of the tensors, a preset, and the requested image size or None, to the fields that the
            file itself determines: ``image_size``, ``in_channels``, and ``num_classes`` if there is a classifier.
        list_rules: Function of the tensors and the config to the rules for our tensors.
        classifier: Prefix of the names of our classifier, the one part that may be missing.
        unneeded: Reasons why tensors may be ignored, by regular expressions of their names.
        notes: Notes for the reader of a report.
    """

    name: str
    title: str
    network: type[NetworkConfig]
    mark: str
    read_fields: Callable[[Tensors, Any, tuple[int, int] | None], dict[str, Any]]
    list_rules: Callable[[Tensors, Any], TensorRules]
    classifier: str = "classifier."
    unneeded: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def recognizes(self, names: Mapping[str, Any]) -> bool:
        """Return whether the names are those of this family."""
        return any(re.fullmatch(self.mark, name) for name in names)

    def why_unneeded(self, name: str) -> str | None:
        """Return the reason why a tensor of this name may be ignored, or None."""
        return next((reason for pattern, reason in self.unneeded.items() if re.fullmatch(pattern, name)), None)


class PresetFit(NamedTuple):
    """Match of a file with a preset.

    Attributes:
        config: Config of the network with the image size, channels and classes of the file.
        rules: Rules for our tensors that the file provides.
        fresh: Names of our tensors that the file does not provide.
        left_out: Reasons why tensors of the file are ignored, by their names.
    """

    config: NetworkConfig
    rules: TensorRules
    fresh: tuple[str, ...]
    left_out: dict[str, str]


def layer_rules(theirs: str, ours: str) -> TensorRules:
    """Return the rules for weight and bias of a layer."""
    return {f"{ours}.{part}": TensorRule((f"{theirs}.{part}",)) for part in ("weight", "bias")}


def joined_layer_rules(theirs: tuple[str, ...], ours: str) -> TensorRules:
    """Return the rules for one layer of ours that joins the outputs of several layers of the file, in this order."""
    return {f"{ours}.{part}": TensorRule(tuple(f"{name}.{part}" for name in theirs)) for part in ("weight", "bias")}


def batch_norm_rules(theirs: str, ours: str) -> TensorRules:
    """Return the rules for a batch normalization and its statistics."""
    return {
        f"{ours}.{part}": TensorRule((f"{theirs}.{part}",))
        for part in ("weight", "bias", "running_mean", "running_var", COUNTER)
    }


def square_grid(count: int, name: str, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Return rows and columns of ``count`` positions: a square, or the requested grid if it has as many positions.

    Args:
        count: Number of positions.
        name: Name of the tensor, for the error.
        wanted: Requested rows and columns, or None.

    Raises:
        GossamerError: ``E-GEOMETRY``, if neither a square nor the requested grid has that many positions.
    """
    side = math.isqrt(count)
    if side * side == count and count:
        return side, side
    if wanted is not None and math.prod(wanted) == count:
        return wanted
    problem = f"holds {count} positions, which do not form a square grid"
    raise GossamerError(ErrorCode.GEOMETRY, name, problem, "give the image size of the file as image_size")


def axis_length(tensors: Tensors, name: str, axis: int, axes: int) -> int:
    """Return the length of one axis of a tensor.

    Raises:
        GossamerError: ``E-MISSING`` if the file has no such tensor; ``E-VALUE`` if it has another number of axes.
    """
    if name not in tensors:
        raise GossamerError(ErrorCode.MISSING, name, "is not in the file", "use the whole file as it was published")
    shape = tuple(tensors[name].shape)
    if len(shape) != axes:
        problem = f"has the shape {shape}, {axes} axes are expected"
        raise GossamerError(ErrorCode.VALUE, name, problem, "check which network the file is for")
    return shape[axis]


def match_preset(
    family: WeightFamily, tensors: Tensors, preset: NetworkConfig, image_size: tuple[int, int] | None
) -> PresetFit:
    """Return the match of a file with a preset. Only names and shapes are compared; nothing is computed.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for a name that the family does not know; ``E-MISSING`` for a missing tensor;
            ``E-VALUE`` for another shape; ``E-GEOMETRY`` or ``E-CONFIG`` for an image size that does not fit.
    """
    config = dataclasses.replace(preset, **family.read_fields(tensors, preset, image_size))
    rules = family.list_rules(tensors, config)
    present = {ours: made for ours, made in rules.items() if all(name in tensors for name in made.names)}
    has_classifier = any(ours.startswith(family.classifier) for ours in present)

    def is_optional(ours: str) -> bool:
        return ours.endswith(COUNTER) or (ours.startswith(family.classifier) and not has_classifier)

    for ours, made in rules.items():
        if ours not in present and not is_optional(ours):
            lacking = next(name for name in made.names if name not in tensors)
            problem = f"is not in the file, and the network's {ours} needs it"
            raise GossamerError(ErrorCode.MISSING, lacking, problem, "use the whole file as it was published")
    known = {name for made in rules.values() for name in made.names}
    left_out = {name: why for name in tensors if name not in known and (why := family.why_unneeded(name))}
    _require_none([name for name in tensors if name not in known and name not in left_out], family, config)
    with torch.device("meta"):  # names and shapes are enough
        wanted = {name: tuple(tensor.shape) for name, tensor in config.build().state_dict().items()}
    _require_none([name for ours, made in present.items() if ours not in wanted for name in made.names], family, config)
    fresh = tuple(ours for ours in wanted if ours not in present)
    for ours in fresh:
        if not is_optional(ours):
            problem = f"has no tensor for the network's {ours}"
            raise GossamerError(ErrorCode.MISSING, family.title, problem, "choose another model")
    for ours, made in present.items():
        _check_shape(ours, made, tensors, wanted[ours])
    return PresetFit(config, present, fresh, left_out)


def _require_none(names: list[str], family: WeightFamily, config: NetworkConfig) -> None:
    """Raise if tensors of these names have no place in the network."""
    if names:
        problem = f"{len(names)} tensors have no place in {config.name}: {', '.join(names[:3])}"
        remedy = "use weights of the plain network; without these tensors it would compute something else"
        raise GossamerError(ErrorCode.UNSUPPORTED, family.title, problem, remedy)


def _check_shape(ours: str, made: TensorRule, tensors: Tensors, wanted: tuple[int, ...]) -> None:
    """Raise unless a rule gives one of our tensors its shape."""
    shapes = [tuple(tensors[name].shape) for name in made.names]
    try:
        found = tuple(made.make(*(tensors[name].to("meta") for name in made.names)).shape)
    except (RuntimeError, IndexError):
        found = None
    if found != wanted:
        found_shapes = " and ".join(map(str, shapes))
        problem = f"{' and '.join(made.names)} has the shape {found_shapes}, the network's {ours} needs {wanted}"
        raise GossamerError(ErrorCode.VALUE, made.names[0], problem, "check which network the file is for")
