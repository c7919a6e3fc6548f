"""Weights of one network for another with another mechanism, image size, or number of channels or classes.

Tensors of the same name and shape are kept. Projections of attention mechanisms are mapped by meaning: a mechanism
without a projection of queries (``kv``, ``kv_pos``, ``soft``) takes that of the keys, or the mean of the two. The scale
of the logits then differs, so the network needs further training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.arguments import checked_arguments
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import Attention, AttentionLike, attention_config
from gossamer.nn.layers.position import LearnedPosition, resample_positions
from gossamer.nn.models.base import Network

Query = Literal["key", "mean"]
"""Treatment of the projection of queries for a mechanism without one: dropped, or averaged with that of the keys."""
CLASSIFIER = "classifier."


@dataclass(frozen=True)
class WeightTransfer:
    """Outcome of a transfer for every tensor.

    Attributes:
        kept: Names of tensors that were copied unchanged.
        adapted: Methods by which tensors were made from those of the source, by name.
        fresh: Names of tensors without a counterpart in the source, which keep their initial values.
        ignored: Reasons why tensors of the source were not used, by name.
    """

    kept: tuple[str, ...]
    adapted: Mapping[str, str]
    fresh: tuple[str, ...]
    ignored: Mapping[str, str]

    def summary(self) -> str:
        """Return the counts as one line of text."""
        parts = [f"{len(self.kept)} tensors kept", f"{len(self.adapted)} adapted", f"{len(self.fresh)} fresh"]
        if self.ignored:
            parts.append(f"{len(self.ignored)} ignored ({', '.join(sorted(set(self.ignored.values())))})")
        return ", ".join(parts)


@checked_arguments
def convert_attention(model: Network, attention: AttentionLike, query: Query = "key") -> Network:
    """Return a copy of a network with another attention mechanism, with the weights that both can use.

    Args:
        model: Trained network; it is not changed.
        attention: Name or config of the new mechanism.
        query: Projection that a mechanism without queries takes: that of the keys, or the mean of both.

    Raises:
        GossamerError: ``E-CONFIG`` where the network has no attention, ``E-UNSUPPORTED`` where it does not fit.
    """
    if model.config.attention is None:
        problem = f"{model.config.name} has no attention to change"
        raise GossamerError(ErrorCode.CONFIG, "attention", problem, "convert a network with attention")
    changed: Any = replace(model.config, attention=attention_config(attention))  # type: ignore[call-arg]
    like = next(model.parameters())
    target = changed.with_supported_readout().build().to(like.device, like.dtype).train(model.training)
    transfer_weights(model, target, query)
    return target


def has_queries(network: Network) -> bool:
    """Return whether any attention layer of a network has separate projections of queries and keys."""
    attentions = [module for module in network.modules() if isinstance(module, Attention)]
    return any(isinstance(getattr(layer, name, None), nn.Linear) for layer in attentions for name in ("qkv", "query"))


def transfer_weights(source: Network, target: Network, query: Query = "key") -> WeightTransfer:
    """Load the weights of ``source`` that fit into ``target``, and return the outcome for every tensor.

    Args:
        source: Network of the same class.
        target: Network with fresh weights.
        query: Projection that a mechanism without queries takes, as in ``convert_attention``.

    Raises:
        GossamerError: ``E-CONFIG`` for networks of different classes, ``E-VALUE`` for a tensor of another size.
    """
    if type(source) is not type(target):
        problem = f"weights of {source.config.name} do not fit {target.config.name}"
        raise GossamerError(ErrorCode.CONFIG, "init", problem, f"start from weights of {target.config.name}")
    given, needed = dict(source.state_dict()), target.state_dict()
    kept: list[str] = []
    adapted: dict[str, str] = {}
    loaded: dict[str, Tensor] = {}
    ignored: dict[str, str] = {}
    for name, module in target.named_modules():
        other = _find_module(source, name)
        if isinstance(module, Attention) and other is not None and type(module) is not type(other):
            made = _convert_projections(other, module, query)
            adapted |= {f"{name}.{key}": how for key, (_, how) in made.items()}
            loaded |= {f"{name}.{key}": tensor for key, (tensor, _) in made.items()}
            for key in [key for key in given if key.startswith(f"{name}.")]:
                tensor = given.pop(key)
                if key in needed and key not in loaded and needed[key].shape == tensor.shape:
                    kept.append(key)
                    loaded[key] = tensor
                elif key.removeprefix(f"{name}.").split(".")[0] not in _ROLES:
                    ignored[key] = "belongs to the previous attention mechanism"
        elif isinstance(module, LearnedPosition) and isinstance(other, LearnedPosition):
            key = f"{name}.table"
            if module.table.shape != given[key].shape or module.grid != other.grid:
                loaded[key] = _resample_positions(given.pop(key), other, module)
                adapted[key] = f"resampled from {_format_grid(other.grid)} to {_format_grid(module.grid)}"
    for key, tensor in given.items():
        if key not in needed:
            ignored[key] = "has no counterpart"
        elif tensor.shape == needed[key].shape:
            kept.append(key)
            loaded[key] = tensor
        elif key.startswith(CLASSIFIER) or f".{CLASSIFIER}" in key:
            ignored[key] = "other classes"
        elif key.endswith(".offsets"):
            size = needed[key].shape[1:]
            loaded[key] = F.interpolate(tensor[None], size=size, mode="bicubic", align_corners=False)[0]
            adapted[key] = f"resampled from {_format_grid(tensor.shape[1:])} to {_format_grid(size)}"
        else:
            loaded[key] = adapt_channels(tensor, needed[key].shape, key)
            adapted[key] = f"{tensor.shape[1]} to {needed[key].shape[1]} input channels"
    target.load_state_dict({**needed, **loaded})
    fresh = tuple(key for key in needed if key not in loaded)
    return WeightTransfer(tuple(sorted(kept)), adapted, fresh, ignored)


def adapt_channels(weight: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Return the weight of a first convolution for another number of input channels.

    The sum over channels is kept, so that a grey image that is repeated in every channel gives the same result.

    Raises:
        GossamerError: ``E-VALUE``, where more than the number of input channels differs.
    """
    if weight.ndim != 4 or shape[0] != weight.shape[0] or shape[2:] != weight.shape[2:]:
        problem = f"tensor {name!r} has shape {tuple(weight.shape)}, the network needs {tuple(shape)}"
        raise GossamerError(ErrorCode.VALUE, "init", problem, "omit the options that change the network")
    return weight.sum(dim=1, keepdim=True).expand(-1, shape[1], -1, -1) / shape[1]


_ROLES = {
    "qkv": ("query", "key", "value"),
    "key_value": ("key", "value"),
    "query": ("query",),
    "key": ("key",),
    "value": ("value",),
    "shared": ("key",),
    "output": ("output",),
}
"""Projections that each layer of an attention mechanism holds, by the name of the layer."""


def _convert_projections(source: nn.Module, target: Attention, query: Query) -> dict[str, tuple[Tensor, str]]:
    """Return the tensors of the projections of ``target``, each with the method by which it was made."""
    found = _read_projections(source)
    layers = {name: getattr(target, name) for name in _ROLES if isinstance(getattr(target, name, None), nn.Linear)}
    made: dict[str, tuple[Tensor, str]] = {}
    for name, layer in layers.items():
        roles = _ROLES[name]
        merged = "query" not in layers and "qkv" not in layers and query == "mean"
        parts = [
            _average_projections(found["query"], found["key"]) if merged and role == "key" else found[role]
            for role in roles
        ]
        how = " and ".join("mean of query and key" if merged and role == "key" else role for role in roles)
        for part_name in ("weight", "bias"):
            tensors = [part[part_name] for part in parts]
            needed = getattr(layer, part_name)
            if needed is None or any(tensor is None for tensor in tensors):
                continue
            joined = torch.cat(tensors)  # type: ignore[arg-type]
            if joined.shape == needed.shape:
                made[f"{name}.{part_name}"] = (joined, how)
    return made


def _read_projections(attention: nn.Module) -> dict[str, dict[str, Tensor | None]]:
    """Return weight and bias of the projections of queries, keys, values and output."""
    found: dict[str, dict[str, Tensor | None]] = {}
    for name, roles in _ROLES.items():
        layer = getattr(attention, name, None)
        if not isinstance(layer, nn.Linear):
            continue
        weights = layer.weight.detach().chunk(len(roles))
        biases = [None] * len(roles) if layer.bias is None else layer.bias.detach().chunk(len(roles))
        for role, weight, bias in zip(roles, weights, biases, strict=True):
            found[role] = {"weight": weight, "bias": bias}
    return {"query": found["key"], **found}


def _average_projections(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    pairs = {kind: (one[kind], other[kind]) for kind in one}
    return {kind: None if a is None or b is None else (a + b) / 2 for kind, (a, b) in pairs.items()}


def _resample_positions(table: Tensor, source: LearnedPosition, target: LearnedPosition) -> Tensor:
    """Return the positions on the grid of ``target``, resampled by its method, without prefix tokens that it lacks."""
    count, wanted = source.num_prefix_tokens, target.num_prefix_tokens
    prefix, spatial = table.split([count, math.prod(source.grid)], dim=1)
    if wanted > count:
        prefix = torch.cat([target.table.detach()[:, : wanted - count], prefix], dim=1)
    if source.grid != target.grid:
        spatial = resample_positions(spatial, source.grid, target.grid, target.resample)
    return torch.cat([prefix[:, :wanted], spatial], dim=1)


def _find_module(network: nn.Module, name: str) -> nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None


def _format_grid(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))
