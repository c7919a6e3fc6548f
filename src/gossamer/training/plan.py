"""From a data set and options to the config of a run with nothing left open."""

from __future__ import annotations

from pathlib import Path

from gossamer.data import Dataset
from gossamer.errors import Note
from gossamer.training.options import TrainOptions
from gossamer.training.resolve_model import NetworkChoice, choose_network
from gossamer.training.run_folder import RunConfig
from gossamer.training.tasks import training_task


def name_run(dataset: Dataset, choice: NetworkChoice, seed: int) -> str:
    """Return the default name of a run folder: data, preset, mechanism, seed."""
    mechanism = [] if choice.mechanism is None else [choice.mechanism.name]
    return "-".join([Path(dataset.source).stem, choice.preset, *mechanism, str(seed)])


def plan_run(dataset: Dataset, options: TrainOptions) -> tuple[RunConfig, tuple[Note, ...]]:
    """Return the config of a run, and notes on what was chosen for the user. Memory is not considered.

    Raises:
        GossamerError: The data cannot be trained with, or the options contradict it or each other.
    """
    task = training_task(dataset.task)
    draft = task.draft_run(dataset, options, choose_network(dataset.task, options), None)
    return task.complete_run(dataset, options, draft)
