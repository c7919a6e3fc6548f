"""A network of ours with the weights of a published file: at the file's own size first, then at the requested one.

The network is built as the file has it, so that every tensor either fits exactly or is refused. Only then are positions
resampled, and input channels and classes changed, by ``gossamer.nn.transfer``, as for any other network.
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
from gossamer.pretrained import FAMILIES, WeightFamily
from gossamer.pretrained.family import COUNTER, PresetFit, TensorRule, Tensors, match_preset
from gossamer.pretrained.import_account import ImportAccount, account_for_import
from gossamer.pretrained.published_file import PublishedFile

SEED = 0
"""Seed of the tensors that the file does not provide."""


class ImportedNetwork(NamedTuple):
    """A network with published weights.

    Attributes:
        network: Network in evaluation mode.
        account: Account of every tensor of the file and of the network.
    """

    network: Network
    account: ImportAccount


def find_family(published: PublishedFile) -> WeightFamily:
    """Return the family whose names a file has.

    Raises:
        GossamerError: ``E-UNSUPPORTED``, if no family is recognized.
    """
    for family in FAMILIES.values():
        if family.recognizes(published.tensors):
            return family
    names = ", ".join(sorted(published.tensors)[:3])
    known = ", ".join(family.title for family in FAMILIES.values())
    problem = f"tensors named {names} belong to no known kind of weights"
    raise GossamerError(ErrorCode.UNSUPPORTED, published.file, problem, f"known: {known}")


def find_preset(published: PublishedFile, image_size: tuple[int, int] | None = None) -> str:
    """Return the name of the one preset that a file fits.

    Raises:
        GossamerError: ``E-UNSUPPORTED``, if no family is recognized; ``E-CONFIG``, if no preset fits or several do.
    """
    family = find_family(published)
    fitting = _list_fitting(family, published.tensors, image_size)
    if len(fitting) == 1:
        return fitting[0]
    problem = f"{family.title} fits {', '.join(fitting) or 'no preset'}"
    remedy = "choose one of them as model" if fitting else "give a model of the same sizes"
    raise GossamerError(ErrorCode.CONFIG, published.file, problem, remedy)


def load_published(
    published: PublishedFile,
    preset: str | NetworkConfig,
    *,
    attention: str | None = None,
    image_size: tuple[int, int] | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
) -> ImportedNetwork:
    """Return the network of a preset with the weights of a published file.

    Args:
        published: Content of the file.
        preset: Name of the network, or its config.
        attention: Name of the preset's own mechanism; others are refused, since weights are converted after the import.
        image_size: ``(rows, columns)`` in pixels (default: that of the file).
        in_channels: Number of channels of an image (default: that of the file).
        num_classes: Number of logits (default: that of the file, or of the preset if the file has no classifier).

    Raises:
        GossamerError: ``E-CONFIG`` if the file is for another network; ``E-UNSUPPORTED``, ``E-MISSING`` and ``E-VALUE``
            if a tensor is unknown, missing, or of another shape; ``E-VALUE`` for values that are not finite.
    """
    start = config.find_entry(PRESETS, preset, "model") if isinstance(preset, str) else preset
    family = find_family(published)
    found = _fit_preset(family, published, start, preset if isinstance(preset, str) else start.name, image_size)
    _require_own_attention(start, attention)
    given: dict[str, Any] = {"image_size": image_size, "in_channels": in_channels, "num_classes": num_classes}
    given = {key: value for key, value in given.items() if value is not None}
    wanted = dataclasses.replace(found.config, **given)
    if not any(name.startswith(family.classifier) for name in found.rules):
        # The file has no classifier, so the network starts with the requested one.
        own = dataclasses.replace(found.config, num_classes=wanted.num_classes)
    else:
        own = found.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = own.build().eval()
        tensors = {ours: _make_tensor(rule, published) for ours, rule in found.rules.items()}
        network.load_state_dict(network.state_dict() | tensors)
        transfer = None
        if wanted != own:
            target = wanted.build().eval()
            transfer = transfer_weights(network, target)
            network = target
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return ImportedNetwork(network, account_for_import(family, published, found, shapes, transfer))


def _fit_preset(
    family: WeightFamily,
    published: PublishedFile,
    preset: NetworkConfig,
    name: str,
    image_size: tuple[int, int] | None,
) -> PresetFit:
    """Return the match of the file with the preset.

    Raises:
        GossamerError: The error of ``match_preset``, or ``E-CONFIG`` with the presets that fit.
    """
    failure: GossamerError | None = None
    if isinstance(preset, family.network):
        try:
            return match_preset(family, published.tensors, preset, image_size)
        except GossamerError as error:
            failure = error
    fitting = _list_fitting(family, published.tensors, image_size)
    if failure is None or fitting:
        reason = failure.problem if failure is not None else f"{name} is a {preset.name}"
        where = f"{failure.where}: " if failure is not None else ""
        remedy = f"use the model {' or '.join(fitting)}" if fitting else "no preset has these sizes"
        problem = f"{family.title} does not fit {name}: {where}{reason}"
        raise GossamerError(ErrorCode.CONFIG, published.file, problem, remedy) from failure
    problem = f"{failure.where}: {failure.problem}"
    raise GossamerError(failure.code, published.file, problem, failure.remedy) from failure


def _list_fitting(family: WeightFamily, tensors: Tensors, image_size: tuple[int, int] | None) -> list[str]:
    """Return the names of the presets that the tensors fit."""
    return [name for name, preset in PRESETS.items() if _is_fitting(family, tensors, preset, image_size)]


def _is_fitting(
    family: WeightFamily, tensors: Tensors, preset: NetworkConfig, image_size: tuple[int, int] | None
) -> bool:
    if not isinstance(preset, family.network):
        return False
    try:
        match_preset(family, tensors, preset, image_size)
    except GossamerError:
        return False
    return True


def _require_own_attention(preset: NetworkConfig, attention: str | None) -> None:
    """Raise if another mechanism than the preset's own is requested.

    Raises:
        GossamerError: ``E-UNSUPPORTED``.
    """
    own = None if preset.attention is None else preset.attention.name
    if attention is not None and attention != own:
        problem = f"published weights are for {own} attention, not {attention}"
        remedy = f"import without it, then convert with gossamer train --init FOLDER --attention {attention}"
        raise GossamerError(ErrorCode.UNSUPPORTED, "attention", problem, remedy)


def _make_tensor(rule: TensorRule, published: PublishedFile) -> Tensor:
    """Return one of our tensors, in float32 unless it is a counter.

    Raises:
        GossamerError: ``E-VALUE``, for whole numbers where weights are expected, and for values that are not finite.
    """
    parts = [published.tensors[name] for name in rule.names]
    if rule.names[0].endswith(COUNTER):
        return rule.make(*parts)
    for name, part in zip(rule.names, parts, strict=True):
        if not part.is_floating_point():
            stored = str(part.dtype).removeprefix("torch.")
            problem = f"tensor {name!r} has the type {stored}, weights are floating-point numbers"
            remedy = "use the weights from before they were quantized"
            raise GossamerError(ErrorCode.VALUE, published.file, problem, remedy)
        if not torch.isfinite(part.float()).all():
            problem = f"tensor {name!r} contains NaN or infinity"
            raise GossamerError(ErrorCode.VALUE, published.file, problem, "use another copy of the weights")
    return rule.make(*(part.float() for part in parts))
