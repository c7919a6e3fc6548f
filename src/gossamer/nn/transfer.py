"""What a network can take over from another one: of another mechanism, image size, or number of channels or classes.

Tensors of the same name and shape are kept. What an attention mechanism calls its projections is mapped by meaning: a
mechanism without queries of its own (``kv``, ``kv_pos``, ``soft``) takes the keys' projection for both, or the mean of
the two. The scale of the logits then differs, so the network is meant to be trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import Attention, AttentionLike, attention_config
from gossamer.nn.layers.position import LearnedPosition
from gossamer.nn.models.base import Network

Query = Literal["key", "mean"]
"""What becomes of queries where a mechanism has none: dropped for the keys, or averaged with them."""
CLASSIFIER = "classifier."


@dataclass(frozen=True)
class Transfer:
    """What became of every tensor.

    Attributes:
        kept: names of tensors that were taken over as they are.
        adapted: names of tensors that were made from the source's, with how.
        fresh: names of tensors that the source has nothing for.
        left_out: names of the source's tensors that found no place, with why.
    """

    kept: tuple[str, ...]
    adapted: Mapping[str, str]
    fresh: tuple[str, ...]
    left_out: Mapping[str, str]

    def summary(self) -> str:
        """Return one line to print."""
        parts = [f"{len(self.kept)} tensors kept", f"{len(self.adapted)} adapted", f"{len(self.fresh)} fresh"]
        if self.left_out:
            parts.append(f"{len(self.left_out)} left out ({', '.join(sorted(set(self.left_out.values())))})")
        return ", ".join(parts)


def convert_attention(model: Network, attention: AttentionLike, query: Query = "key") -> Network:
    """Return a copy of a network with another attention mechanism, with the weights that both can use.

    Args:
        model: a trained network; it is left as it is.
        attention: name or config of the mechanism.
        query: what takes the place of queries in a mechanism without: the projection of the keys, or the mean of both.

    Raises:
        GossamerError: ``E-CONFIG`` where the network has no attention, ``E-UNSUPPORTED`` where it does not fit.
    """
    if model.config.attention is None:
        problem = f"{model.config.name} has no attention to change"
        raise GossamerError(ErrorCode.CONFIG, "attention", problem, "convert another network")
    changed: Any = replace(model.config, attention=attention_config(attention))  # type: ignore[call-arg]
    like = next(model.parameters())
    target = changed.fitted().build().to(like.device, like.dtype).train(model.training)
    transfer_weights(model, target, query)
    return target


def has_queries(network: Network) -> bool:
    """Return whether some attention of a network projects queries apart from its keys."""
    attentions = [module for module in network.modules() if isinstance(module, Attention)]
    return any(isinstance(getattr(one, name, None), nn.Linear) for one in attentions for name in ("qkv", "query"))


def transfer_weights(source: Network, target: Network, query: Query = "key") -> Transfer:
    """Load into ``target`` what it can take over from ``source``, and say what became of every tensor.

    Args:
        source: a network of the same kind.
        target: a network with fresh weights.
        query: as in ``convert_attention``.

    Raises:
        GossamerError: ``E-CONFIG`` for networks of different kinds, ``E-VALUE`` for a tensor of another size.
    """
    if type(source) is not type(target):
        problem = f"weights of {source.config.name} for {target.config.name}"
        raise GossamerError(ErrorCode.CONFIG, "init", problem, "start from a network of the same kind")
    given, wanted = dict(source.state_dict()), target.state_dict()
    kept: list[str] = []
    adapted: dict[str, str] = {}
    loaded: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    for name, module in target.named_modules():
        other = _module(source, name)
        if isinstance(module, Attention) and other is not None and type(module) is not type(other):
            made = _converted(other, module, query)
            adapted |= {f"{name}.{key}": how for key, (_, how) in made.items()}
            loaded |= {f"{name}.{key}": tensor for key, (tensor, _) in made.items()}
            for key in [key for key in given if key.startswith(f"{name}.")]:
                tensor = given.pop(key)
                if key in wanted and key not in loaded and wanted[key].shape == tensor.shape:
                    kept.append(key)
                    loaded[key] = tensor
                elif key.removeprefix(f"{name}.").split(".")[0] not in _PROJECTIONS:
                    left_out[key] = "of the former attention"
        elif isinstance(module, LearnedPosition) and isinstance(other, LearnedPosition):
            key = f"{name}.table"
            if module.table.shape != given[key].shape or module.grid != other.grid:
                loaded[key] = _resampled(given.pop(key), other, module)
                adapted[key] = f"resampled from {_by(other.grid)} to {_by(module.grid)}"
    for key, tensor in given.items():
        if key not in wanted:
            left_out[key] = "has no place"
        elif tensor.shape == wanted[key].shape:
            kept.append(key)
            loaded[key] = tensor
        elif key.startswith(CLASSIFIER) or f".{CLASSIFIER}" in key:
            left_out[key] = "other classes"
        elif key.endswith(".offsets"):
            size = wanted[key].shape[1:]
            loaded[key] = F.interpolate(tensor[None], size=size, mode="bicubic", align_corners=False)[0]
            adapted[key] = f"resampled from {_by(tensor.shape[1:])} to {_by(size)}"
        else:
            loaded[key] = with_channels(tensor, wanted[key].shape, key)
            adapted[key] = f"{tensor.shape[1]} to {wanted[key].shape[1]} input channels"
    target.load_state_dict({**wanted, **loaded})
    fresh = tuple(key for key in wanted if key not in loaded)
    return Transfer(tuple(sorted(kept)), adapted, fresh, left_out)


def with_channels(weight: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Return the weight of a first convolution for another number of input channels.

    The sum over channels is kept, so that a grey image that is repeated in every channel gives what it gave before.

    Raises:
        GossamerError: ``E-VALUE``, where more than the number of input channels differs.
    """
    if weight.ndim != 4 or shape[0] != weight.shape[0] or shape[2:] != weight.shape[2:]:
        problem = f"tensor {name!r} holds {tuple(weight.shape)}, the network needs {tuple(shape)}"
        raise GossamerError(ErrorCode.VALUE, "init", problem, "leave the options that change the network out")
    return weight.sum(dim=1, keepdim=True).expand(-1, shape[1], -1, -1) / shape[1]


_PROJECTIONS = ("qkv", "key_value", "query", "key", "value", "shared", "output")


def _converted(source: nn.Module, target: Attention, query: Query) -> dict[str, tuple[Tensor, str]]:
    """Return the tensors of ``target``'s projections, each with how it was made."""
    had = _read(source)
    layers = {
        name: getattr(target, name) for name in _PROJECTIONS if isinstance(getattr(target, name, None), nn.Linear)
    }
    made: dict[str, tuple[Tensor, str]] = {}
    for name, layer in layers.items():
        roles = {"qkv": ("query", "key", "value"), "key_value": ("key", "value"), "shared": ("key",)}.get(name, (name,))
        merged = "query" not in layers and "qkv" not in layers and query == "mean"
        parts = [_mean(had["query"], had["key"]) if merged and role == "key" else had[role] for role in roles]
        how = " and ".join("mean of query and key" if merged and role == "key" else role for role in roles)
        for kind in ("weight", "bias"):
            tensors = [part[kind] for part in parts]
            wanted = getattr(layer, kind)
            if wanted is None or any(tensor is None for tensor in tensors):
                continue
            joined = torch.cat(tensors)  # type: ignore[arg-type]
            if joined.shape == wanted.shape:
                made[f"{name}.{kind}"] = (joined, how)
    return made


def _read(attention: nn.Module) -> dict[str, dict[str, Tensor | None]]:
    """Return weight and bias of the projections of queries, keys, values and output."""
    found: dict[str, dict[str, Tensor | None]] = {}
    for name in _PROJECTIONS:
        layer = getattr(attention, name, None)
        if not isinstance(layer, nn.Linear):
            continue
        roles = {"qkv": ("query", "key", "value"), "key_value": ("key", "value"), "shared": ("key",)}.get(name, (name,))
        weights = layer.weight.detach().chunk(len(roles))
        biases = [None] * len(roles) if layer.bias is None else layer.bias.detach().chunk(len(roles))
        for role, weight, bias in zip(roles, weights, biases, strict=True):
            found[role] = {"weight": weight, "bias": bias}
    return {"query": found["key"], **found}


def _mean(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    pairs = {kind: (one[kind], other[kind]) for kind in one}
    return {kind: None if a is None or b is None else (a + b) / 2 for kind, (a, b) in pairs.items()}


def _resampled(table: Tensor, source: LearnedPosition, target: LearnedPosition) -> Tensor:
    """Return the positions at ``target``'s grid, resampled as it does; prefix tokens that it lacks are left out."""
    count, wanted = source.num_prefix_tokens, target.num_prefix_tokens
    prefix, spatial = table.split([count, math.prod(source.grid)], dim=1)
    if wanted > count:
        prefix = torch.cat([target.table.detach()[:, : wanted - count], prefix], dim=1)
    plane = spatial.transpose(1, 2).unflatten(2, source.grid)
    if source.grid != target.grid:
        plane = F.interpolate(plane, size=target.grid, mode=target.resample, antialias=False, align_corners=False)
    return torch.cat([prefix[:, :wanted], plane.flatten(2).transpose(1, 2)], dim=1)


def _module(network: nn.Module, name: str) -> nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None


def _by(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))
