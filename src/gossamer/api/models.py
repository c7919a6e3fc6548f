"""``gossamer.describe_models``: presets of networks with their size and work, and attention mechanisms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gossamer.arguments import checked_arguments
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import PRESETS, create_model, list_models
from gossamer.summary import Result, SummaryTable
from gossamer.task import TaskName


@dataclass(frozen=True)
class PresetSummary:
    """A preset of a network.

    Attributes:
        name: Name of the preset.
        task: Task of the network.
        image_size: Rows and columns of its input.
        parameters: Number of parameters.
        macs: Multiply-accumulates for one image.
    """

    name: str
    task: TaskName
    image_size: tuple[int, int]
    parameters: int
    macs: int


@dataclass(frozen=True, repr=False)
class ModelList(Result):
    """The available networks and attention mechanisms.

    Attributes:
        pattern: Shell pattern of the names.
        models: Presets whose names match it, by task and name.
        attention: Names of the attention mechanisms.
    """

    pattern: str
    models: tuple[PresetSummary, ...]
    attention: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the presets and the mechanisms as data."""
        return {"models": [vars(model) for model in self.models], "attention": list(self.attention)}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return a table of the presets and a line with the mechanisms."""
        if not self.models:
            return (SummaryTable(f"no model matches {self.pattern!r}", (), ()),)
        rows = tuple(
            (
                model.name,
                model.task,
                "x".join(str(side) for side in model.image_size),
                f"{model.parameters:,}",
                f"{model.macs / 1e9:.3f}",
            )
            for model in self.models
        )
        caption = f"\nattention: {', '.join(self.attention)}"
        return (SummaryTable("", ("model", "task", "input", "parameters", "GMACs"), rows, caption, (0, 1)),)


@checked_arguments
def describe_models(pattern: str = "*") -> ModelList:
    """Return the presets of networks with their size and work, and the attention mechanisms.

    Parameters and multiply-accumulates are those of the published size with the network's own attention mechanism.

    Args:
        pattern: Shell pattern of the names (default: all).
    """
    found = []
    for name in sorted(list_models(pattern), key=lambda name: (PRESETS[name].task, name)):
        preset = PRESETS[name]
        with torch.device("meta"):  # shapes suffice
            model = create_model(name)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        found.append(PresetSummary(name, preset.task, preset.image_size, parameters, model.cost().macs))
    return ModelList(pattern, tuple(found), tuple(MECHANISMS))
