"""Published weights to a network of ours: at the file's own size first, then as it was asked for.

The network is built as the file has it, so that every tensor either fits exactly or is refused. Only then are positions
resampled and input channels and classes changed, by ``gossamer.nn.transfer``, as for any other network.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.models import PRESETS, Network, NetworkConfig
from gossamer.nn.transfer import transfer_weights
from gossamer.pretrained import FAMILIES, Family
from gossamer.pretrained.family import COUNTER, Fit, Made, Tensors, match_preset
from gossamer.pretrained.report import Report, report_import
from gossamer.pretrained.source import Source

SEED = 0
"""Of what is fresh."""


class Imported(NamedTuple):
    """A network with published weights, and what became of every tensor."""

    network: Network
    report: Report


def find_family(source: Source) -> Family:
    """Return the family whose names a file has.

    Raises:
        GossamerError: ``E-UNSUPPORTED``, where it has none that is known.
    """
    for family in FAMILIES.values():
        if family.recognises(source.tensors):
            return family
    names = ", ".join(sorted(source.tensors)[:3])
    known = ", ".join(family.title for family in FAMILIES.values())
    raise GossamerError(ErrorCode.UNSUPPORTED, source.file, f"names such as {names} are not known", f"known: {known}")


def import_weights(
    source: Source,
    preset: str | NetworkConfig,
    *,
    attention: str | None = None,
    image_size: tuple[int, int] | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
) -> Imported:
    """Return the network of a preset with the weights of a published file.

    Args:
        source: the file.
        preset: name of the network, or its config.
        attention: that of the preset; another one is for after the import.
        image_size: ``(rows, columns)`` in pixels; as in the file if left out.
        in_channels: channels of an image; as in the file if left out.
        num_classes: number of logits; as in the file if left out, or as in the preset where the file has no classifier.

    Raises:
        GossamerError: ``E-CONFIG`` where the file is of another network, ``E-UNSUPPORTED``, ``E-MISSING`` and
            ``E-VALUE`` where a tensor is unknown, not there, or of another shape; ``E-VALUE`` for values that are not
            finite.
    """
    start = config.find_entry(PRESETS, preset, "model") if isinstance(preset, str) else preset
    family = find_family(source)
    found = _fitted(family, source, start, preset if isinstance(preset, str) else start.name, image_size)
    _check_attention(start, attention)
    asked: dict[str, Any] = {"image_size": image_size, "in_channels": in_channels, "num_classes": num_classes}
    asked = {key: value for key, value in asked.items() if value is not None}
    wanted = dataclasses.replace(found.config, **asked)
    if not any(name.startswith(family.classifier) for name in found.rules):
        # There is no classifier to keep, so the wanted one is there from the start.
        own = dataclasses.replace(found.config, num_classes=wanted.num_classes)
    else:
        own = found.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = own.build().eval()
        network.load_state_dict(network.state_dict() | _made(source, found))
        moved = None
        if wanted != own:
            target = wanted.build().eval()
            moved = transfer_weights(network, target)
            network = target
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return Imported(network, report_import(family, source, found, shapes, moved))


def _fitted(
    family: Family, source: Source, preset: NetworkConfig, name: str, image_size: tuple[int, int] | None
) -> Fit:
    """Return how the file fits the preset.

    Raises:
        GossamerError: of ``match_preset``, or ``E-CONFIG`` with the presets that do fit.
    """
    failure: GossamerError | None = None
    if isinstance(preset, family.kind):
        try:
            return match_preset(family, source.tensors, preset, image_size)
        except GossamerError as error:
            failure = error
    fitting = [other for other in PRESETS if _fits(family, source.tensors, PRESETS[other], image_size)]
    if failure is None or fitting:
        reason = failure.problem if failure is not None else f"{name} is a {preset.name}"
        where = f"{failure.where}: " if failure is not None else ""
        remedy = f"use --model {' or '.join(fitting)}" if fitting else "no preset has these sizes"
        raise GossamerError(
            ErrorCode.CONFIG, source.file, f"{family.title} does not fit {name}: {where}{reason}", remedy
        ) from failure
    raise GossamerError(failure.code, source.file, f"{failure.where}: {failure.problem}", failure.remedy) from failure


def _fits(family: Family, tensors: Tensors, preset: NetworkConfig, image_size: tuple[int, int] | None) -> bool:
    if not isinstance(preset, family.kind):
        return False
    try:
        match_preset(family, tensors, preset, image_size)
    except GossamerError:
        return False
    return True


def _check_attention(preset: NetworkConfig, attention: str | None) -> None:
    own = None if preset.attention is None else preset.attention.name
    if attention is not None and attention != own:
        problem = f"published weights are of {own} attention, not {attention}"
        remedy = f"import without it, then convert with gossamer train --init FOLDER --attention {attention}"
        raise GossamerError(ErrorCode.UNSUPPORTED, "--attention", problem, remedy)


def _made(source: Source, found: Fit) -> dict[str, Tensor]:
    return {ours: _checked(made, source) for ours, made in found.rules.items()}


def _checked(made: Made, source: Source) -> Tensor:
    """Return one of our tensors, in float32 unless it counts.

    Raises:
        GossamerError: ``E-VALUE``, for whole numbers that are no weights and for values that are not finite.
    """
    parts = [source.tensors[name] for name in made.names]
    if made.names[0].endswith(COUNTER):
        return made.make(*parts)
    for name, part in zip(made.names, parts, strict=True):
        if not part.is_floating_point():
            stored = str(part.dtype).removeprefix("torch.")
            problem = f"tensor {name!r} holds {stored}, weights are floating-point numbers"
            raise GossamerError(ErrorCode.VALUE, source.file, problem, "use the weights before they were quantized")
        if not torch.isfinite(part.float()).all():
            problem = f"tensor {name!r} holds NaN or infinity"
            raise GossamerError(ErrorCode.VALUE, source.file, problem, "use another copy of the weights")
    return made.make(*(part.float() for part in parts))
