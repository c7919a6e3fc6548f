"""The tasks that a network can be trained for, each with the functions of its own package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from gossamer.data import Sample
from gossamer.errors import Note
from gossamer.nn.models import Network
from gossamer.progress import SILENT, Progress
from gossamer.task import TaskName
from gossamer.training.batches import Batch
from gossamer.training.classification import conclusion as classification_conclusion
from gossamer.training.classification import items as classification_items
from gossamer.training.classification import module as classification_module
from gossamer.training.classification import plan as classification_plan
from gossamer.training.draft import RunDraft
from gossamer.training.job import FitResult, TrainingJob
from gossamer.training.options import TrainOptions
from gossamer.training.resolve_model import NetworkChoice
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.segmentation import conclusion as segmentation_conclusion
from gossamer.training.segmentation import items as segmentation_items
from gossamer.training.segmentation import module as segmentation_module
from gossamer.training.segmentation import plan as segmentation_plan


class TrainingTask(Protocol):
    """A task: how a run is planned, read, trained and concluded.

    Data sets, prepared samples and conclusions are those of the task; nobody else looks into them.
    """

    def draft_run(
        self, dataset: Any, options: TrainOptions, choice: NetworkChoice, base: RunConfig | None
    ) -> RunDraft[Any]:
        """Return the network and the recipe of a run."""
        ...

    def complete_run(
        self, dataset: Any, options: TrainOptions, draft: RunDraft[Any]
    ) -> tuple[RunConfig, tuple[Note, ...]]:
        """Return the config of a run with its fitted preprocessing, and notes on what was chosen for the user."""
        ...

    def prepare_samples(
        self, run: RunConfig, dataset: Any, samples: Sequence[Sample], progress: Progress = SILENT
    ) -> Any:
        """Return samples as training reads them."""
        ...

    def require_classes(self, run: RunConfig, train: Any) -> None:
        """Raise if a class has no training sample, where only the prepared samples can tell."""
        ...

    def training_items(self, run: RunConfig, prepared: Any) -> TorchDataset[Batch]:
        """Return the items that training batches are made of, augmented as they are drawn."""
        ...

    def sample_input(self, run: RunConfig, prepared: Any) -> np.ndarray:
        """Return the first prepared sample as the network takes it: ``(1, channels, rows, columns)``, float32."""
        ...

    def build_job(self, run: RunConfig, network: Network, train: Any, val: Any) -> TrainingJob:
        """Return the module and the batches of a training."""
        ...

    def conclude_run(
        self,
        folder: RunFolder,
        run: RunConfig,
        dataset: Any,
        fitted: FitResult,
        splits: Mapping[str, Any],
        notes: Sequence[Note],
        progress: Progress = SILENT,
    ) -> Any:
        """Return the evaluation and the cost of the best weights, with everything that a report shows."""
        ...


class ClassificationTraining:
    """Training of networks that give an image its classes."""

    draft_run = staticmethod(classification_plan.draft_run)
    complete_run = staticmethod(classification_plan.complete_run)
    prepare_samples = staticmethod(classification_items.prepare_samples)
    require_classes = staticmethod(classification_items.require_classes)
    training_items = staticmethod(classification_items.training_items)
    sample_input = staticmethod(classification_items.sample_input)
    build_job = staticmethod(classification_module.build_job)
    conclude_run = staticmethod(classification_conclusion.conclude_run)


class SegmentationTraining:
    """Training of networks that give a pixel its class or classes."""

    draft_run = staticmethod(segmentation_plan.draft_run)
    complete_run = staticmethod(segmentation_plan.complete_run)
    prepare_samples = staticmethod(segmentation_items.prepare_samples)
    require_classes = staticmethod(segmentation_items.require_classes)
    training_items = staticmethod(segmentation_items.training_items)
    sample_input = staticmethod(segmentation_items.sample_input)
    build_job = staticmethod(segmentation_module.build_job)
    conclude_run = staticmethod(segmentation_conclusion.conclude_run)


TRAINING_TASKS: dict[TaskName, TrainingTask] = {
    "classify": ClassificationTraining(),
    "segment": SegmentationTraining(),
}


def training_task(name: TaskName) -> TrainingTask:
    """Return the task of this name."""
    return TRAINING_TASKS[name]
