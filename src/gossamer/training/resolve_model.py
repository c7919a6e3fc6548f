"""Which network a run trains: a preset with fresh weights, one that is trained already, or that of another run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.config import find_entry
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.nn.attention import AttentionConfig, attention_config
from gossamer.nn.models import PRESETS, NetworkConfig, ViTConfig, list_models, model_config
from gossamer.nn.transfer import has_queries
from gossamer.task import TaskName
from gossamer.training.initial_weights import InitialWeights, read_initial, reload_initial
from gossamer.training.options import TrainOptions
from gossamer.training.run_folder import RunConfig

DEFAULT_MODELS: dict[TaskName, str] = {"classify": "vit_tiny", "segment": "transunet_small"}
DEFAULT_ATTENTION = "sequence_norm"
"""Mechanism of a Vision Transformer with fresh weights; other networks have their own."""


@dataclass(frozen=True)
class NetworkChoice:
    """The network of a run, before the data has decided sizes and numbers.

    Attributes:
        preset: Name of the preset.
        described: Config under that name, or of the given weights or run.
        attention: Mechanism that replaces that of ``described``; None to keep it.
        initial: Weights to start from, with their network; None for fresh ones.
        is_settled: Whether ``described`` is the config of a trained network, which keeps its input size and which the
            recipe does not adapt to the data.
    """

    preset: str
    described: NetworkConfig
    attention: AttentionConfig | None = None
    initial: InitialWeights | None = None
    is_settled: bool = False

    @property
    def mechanism(self) -> AttentionConfig | None:
        """Mechanism that the network will have; None for a network without attention."""
        return self.described.attention if self.attention is None else self.attention

    def build_config(self, **changes: Any) -> NetworkConfig:
        """Return the config with the given values; None keeps the network's own.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED`` if they do not fit the network.
        """
        if not self.is_settled:
            return model_config(self.preset, attention=self.attention, **changes)
        given = {key: value for key, value in changes.items() if value is not None}
        if self.attention is not None:
            if self.described.attention is None:
                problem = f"{self.preset} has no attention mechanism that could be replaced"
                raise GossamerError(ErrorCode.CONFIG, "attention", problem, "omit attention")
            given["attention"] = self.attention
        return dataclasses.replace(self.described, **given).with_supported_readout()

    def describe_transfer(self, model: NetworkConfig) -> list[Note]:
        """Return a note on what a network of this config takes over from the initial weights.

        Raises:
            GossamerError: ``E-VALUE`` or ``E-CONFIG`` if the weights do not fit.
        """
        if self.initial is None:
            return []
        transfer = self.initial.transfer_to(model.build())
        return [Note(ErrorCode.CONFIG, f"weights of {self.initial.source.path}", transfer.summary())]


def choose_network(task: TaskName, options: TrainOptions, base: RunConfig | None = None) -> NetworkChoice:
    """Return the network that the options name, else that of ``base``, else the default of the task.

    Args:
        task: Task of the data.
        options: Options of the run.
        base: Config of another run, whose choices hold unless the options replace them (default: none).

    Raises:
        GossamerError: ``E-CONFIG`` for a name that does not exist, a network of the other task, or a query that
            replaces none; the folder of weights cannot be read.
    """
    if options.init is not None:
        initial = read_initial(options.init, options.query or "key")
        choice = NetworkChoice(initial.preset, initial.network.config, None, initial, is_settled=True)
    elif base is not None and options.model is None:
        initial = None if base.init is None else reload_initial(base.init)
        choice = NetworkChoice(base.preset, base.model, None, initial, is_settled=True)
    else:
        preset = options.model or DEFAULT_MODELS[task]
        choice = NetworkChoice(preset, find_entry(PRESETS, preset, "model"))
    require_task(choice.preset, choice.described, task, "model")
    default = DEFAULT_ATTENTION if not choice.is_settled and isinstance(choice.described, ViTConfig) else None
    attention = default if options.attention is None else options.attention
    if attention is not None:
        choice = dataclasses.replace(choice, attention=attention_config(attention))
        assert choice.attention is not None
        choice.attention.json_header()  # a config that cannot be saved is refused before anything is read or written
    if options.query is not None:
        _require_query_use(choice)
    return choice


def require_task(preset: str, described: NetworkConfig, task: TaskName, where: str) -> None:
    """Raise unless a network is one for the task of the data.

    Args:
        preset: Name of the network.
        described: Config of the network.
        task: Task of the data.
        where: Name of the parameter that chose the network.

    Raises:
        GossamerError: ``E-CONFIG``, with networks of the task.
    """
    if described.task != task:
        problem = f"{preset} is a network to {described.task}, the data is labelled to {task}"
        fitting = ", ".join(name for name in list_models(task=task) if name.endswith(("_small", "_tiny")))
        raise GossamerError(ErrorCode.CONFIG, where, problem, f"use one of {fitting}, ...")


def _require_query_use(choice: NetworkChoice) -> None:
    """Raise unless the new mechanism lacks queries that the initial network has, so that something replaces them.

    Raises:
        GossamerError: ``E-CONFIG`` if a choice of the source of queries would change nothing.
    """
    assert choice.initial is not None
    assert choice.attention is not None
    with torch.device("meta"):
        target = choice.build_config().build()
    had_queries = has_queries(choice.initial.network)
    if had_queries and not has_queries(target):
        return
    own = choice.described.attention
    reason = f"{choice.attention.name} attention has its own queries"
    if own is not None and not had_queries:
        reason = f"the weights' own {own.name} attention has no queries"
    raise GossamerError(ErrorCode.CONFIG, "query", f"has no effect, since {reason}", "omit query")
