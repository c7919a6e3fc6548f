"""A finished run as a value: everything that its report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer import __version__, config
from gossamer.data import SPLITS, ClassificationDataset
from gossamer.data.transforms import Standardize
from gossamer.errors import Note
from gossamer.evaluation.classification import ClassificationEvaluation
from gossamer.evaluation.predictions import Predictions
from gossamer.profiling.network import Costs
from gossamer.training.loop import Fitted
from gossamer.training.run_folder import RunConfig

WORST_CASES = 12


@dataclass(frozen=True)
class ClassificationConclusion:
    """A finished run, with everything that its report shows.

    Attributes:
        run: its config.
        dataset: what it was trained on.
        fitted: how training went.
        predictions: of the evaluated split.
        images: the evaluated images, as the network saw them.
        evaluation: metrics of the evaluated split.
        profile: what the network costs here.
        machine: where that was measured.
        notes: everything a reader should know.
    """

    run: RunConfig
    dataset: ClassificationDataset
    fitted: Fitted
    predictions: Predictions
    images: np.ndarray
    evaluation: ClassificationEvaluation
    profile: Costs
    machine: dict[str, Any]
    notes: tuple[Note, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the summary that is kept beside the run."""
        history = self.fitted.history
        return {
            "gossamer": __version__,
            "data": self.run.data,
            "preset": self.run.preset,
            "model": config.to_json(self.run.model),
            "seed": self.run.seed,
            "splits": {split: sum(s.split == split for s in self.dataset.samples) for split in SPLITS},
            "training": {
                "epochs": len(history),
                "planned_epochs": self.run.recipe.epochs,
                "best_epoch": int(history[self.fitted.best_epoch]["epoch"]),
                "stopped_early": self.fitted.stopped_early,
                "monitor": self.run.monitor,
                "class_weights": dict(zip(self.run.classes, self.fitted.class_weights, strict=True)),
                "seconds": sum(row["seconds"] for row in history),
            },
            **self.evaluation.to_json(),
            "cost": {name: figure.to_json() for name, figure in self.profile.items()},
            "machine": self.machine,
            "notes": [note.to_json() for note in self.notes],
        }

    def worst_cases(self) -> list[tuple[int, float]]:
        """Return the row and the loss of the cases that the model got most wrong, worst first."""
        loss = self.predictions.loss()
        return [(int(row), float(loss[row])) for row in np.argsort(-loss, kind="stable")[:WORST_CASES]]

    def picture(self, row: int) -> np.ndarray:
        """Return an evaluated image for display: ``(rows, columns[, 3])`` with values 0..1."""
        step = next(step for step in self.run.preprocessing.steps if isinstance(step, Standardize))
        picture = self.images[row] * step.std + step.mean
        return picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
