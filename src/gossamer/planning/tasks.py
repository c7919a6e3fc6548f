"""What a plan needs to know of each task, looked up once by the task's name."""

from __future__ import annotations

from typing import Any, Protocol

from gossamer.nn.models import NetworkConfig
from gossamer.planning import classification, segmentation
from gossamer.task import TaskName
from gossamer.training.resolve_model import NetworkChoice


class PlanningTask(Protocol):
    """The functions of ``planning.classification`` and ``planning.segmentation``."""

    @staticmethod
    def survey_data(dataset: Any, seed: int) -> Any:
        """Return what a sample of the training split shows."""
        ...

    @staticmethod
    def choose_size(found: Any, choice: NetworkChoice) -> tuple[tuple[int, int], int, bool]:
        """Return the recipe's image size, what sides are a multiple of, and whether larger sizes are useful."""
        ...

    @staticmethod
    def build_candidate(
        dataset: Any, found: Any, choice: NetworkChoice, size: tuple[int, int]
    ) -> tuple[NetworkConfig, int]:
        """Return the configuration of a network, and its number of calls for one image."""
        ...


TASKS: dict[TaskName, PlanningTask] = {"classify": classification, "segment": segmentation}
