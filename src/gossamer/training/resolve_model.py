"""Which network a run trains: a preset with fresh weights, or one that is trained already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gossamer.config import find_entry
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.nn.attention import AttentionConfig, attention_config
from gossamer.nn.models import PRESETS, NetworkConfig, ViTConfig, list_models, model_config
from gossamer.task import TaskName
from gossamer.training.initial_weights import Initial, read_initial
from gossamer.training.options import TrainOptions

DEFAULT_MODELS: dict[TaskName, str] = {"classify": "vit_tiny", "segment": "transunet_small"}
DEFAULT_ATTENTION = "sequence_norm"
"""Of a Vision Transformer with fresh weights; other networks have their own."""


@dataclass(frozen=True)
class Choice:
    """The network of a run, before the data have decided sizes and numbers.

    Attributes:
        preset: its name.
        described: its config as it is named.
        attention: the mechanism that was asked for, or the default; None for the network's own.
        initial: weights to start from, with their network; None for fresh ones.
    """

    preset: str
    described: NetworkConfig
    attention: AttentionConfig | None
    initial: Initial | None

    @property
    def mechanism(self) -> AttentionConfig | None:
        """The mechanism that the network will have; None for a network without attention."""
        return self.attention or self.described.attention

    def config(self, **changes: Any) -> NetworkConfig:
        """Return the config with the given values; None keeps the network's own.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED``, where they do not fit it.
        """
        if self.initial is not None:
            return self.initial.config(self.attention, **changes)
        return model_config(self.preset, attention=self.attention, **changes)

    def notes(self, model: NetworkConfig) -> list[Note]:
        """Return what becomes of the weights to start from."""
        if self.initial is None:
            return []
        done = self.initial.given_to(model)
        return [Note(ErrorCode.CONFIG, f"weights of {self.initial.weights.path}", done.summary())]


def choose_network(task: TaskName, wishes: TrainOptions) -> Choice:
    """Return the network that the wishes name, or the default of the task.

    Raises:
        GossamerError: ``E-CONFIG``, for a name that does not exist, a network of the other task, or a query that
            replaces none; the folder of weights cannot be read.
    """
    if wishes.init is not None:
        initial = read_initial(wishes.init, wishes.query or "key")
        preset, described = initial.preset, initial.network.config
    else:
        initial, preset = None, wishes.model or DEFAULT_MODELS[task]
        described = find_entry(PRESETS, preset, "model")
    if described.task != task:
        problem = f"{preset} is a network to {described.task}, the data are labelled to {task}"
        fitting = ", ".join(name for name in list_models(task=task) if name.endswith(("_small", "_tiny")))
        raise GossamerError(ErrorCode.CONFIG, "model", problem, f"use one of {fitting}, ...")
    default = DEFAULT_ATTENTION if initial is None and isinstance(described, ViTConfig) else None
    wanted = wishes.attention or default
    attention = None if wanted is None else attention_config(wanted)
    if attention is not None:
        attention.json_header()  # a config that cannot be saved is refused before anything is read or written
    if initial is not None and attention is not None and wishes.query is not None:
        initial.require_query(attention)
    return Choice(preset, described, attention, initial)
