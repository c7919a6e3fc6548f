"""The end of a classification run: evaluation of the best weights, thresholds and cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.checkpoint import load_model
from gossamer.data import ClassificationDataset
from gossamer.data.preparation.classification import PreparedImages
from gossamer.data.transforms import Standardize
from gossamer.errors import Note
from gossamer.evaluation.classification import ClassificationEvaluation, evaluate_predictions
from gossamer.evaluation.predictions import Predictions, predict_split
from gossamer.evaluation.thresholds import choose_thresholds
from gossamer.profiling.machine import describe_machine
from gossamer.profiling.network import profile_model
from gossamer.progress import SILENT, Progress
from gossamer.training.conclusion import Conclusion, choose_split, collect_notes
from gossamer.training.job import FitResult
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.run_predictor import classification_predictor

WORST_CASES = 12
"""Number of images with the largest loss that the report shows."""
_OPTIMISM = "metrics are those of the validation split, which chose the epoch and the thresholds, and are optimistic"


@dataclass(frozen=True, kw_only=True)
class ClassificationConclusion(Conclusion):
    """A finished classification run.

    Attributes:
        dataset: Data that the network was trained on.
        evaluation: Metrics of the evaluated split.
        predictions: Predictions for the evaluated split, with the thresholds of the run.
        images: Evaluated images as the network saw them, ``(samples, channels, rows, columns)``.
    """

    dataset: ClassificationDataset
    evaluation: ClassificationEvaluation
    predictions: Predictions
    images: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Return the summary that is kept in the run folder."""
        weights = dict(zip(self.run.classes, self.fitted.class_weights, strict=True))
        training = self.describe_training()
        seconds = training.pop("seconds")
        return {
            "gossamer": self.version,
            **self.describe_run(),
            "training": {**training, "class_weights": weights, "seconds": seconds},
            **self.describe_result(),
        }

    def worst_cases(self) -> list[tuple[int, float]]:
        """Return the row and the loss of the images with the largest loss, largest first."""
        loss = self.predictions.loss()
        return [(int(row), float(loss[row])) for row in np.argsort(-loss, kind="stable")[:WORST_CASES]]

    def picture(self, row: int) -> np.ndarray:
        """Return an evaluated image for display: ``(rows, columns[, 3])`` with values 0..1."""
        step = next(step for step in self.run.preprocessing.steps if isinstance(step, Standardize))
        picture = self.images[row] * step.std + step.mean
        return picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)


def conclude_run(
    folder: RunFolder,
    run: RunConfig,
    dataset: ClassificationDataset,
    fitted: FitResult,
    splits: Mapping[str, PreparedImages],
    notes: Sequence[Note],
    progress: Progress = SILENT,
) -> ClassificationConclusion:
    """Evaluate the best weights of ``folder`` and measure their cost.

    Thresholds of labels are chosen on the validation split. The test split is evaluated; without one the validation
    split is, with a note, since it has chosen the epoch.

    Args:
        folder: Run folder with the best weights.
        run: Config of the run.
        dataset: Data that the network was trained on.
        fitted: Course of the training.
        splits: Prepared images of every split of the data.
        notes: Notes of planning.
        progress: Receiver of the progress.
    """
    split, collected = choose_split(splits), collect_notes(run, dataset, splits, notes, _OPTIMISM)
    prior = splits["train"].targets.mean(axis=0)
    model = load_model(folder.path)
    predictor = classification_predictor(model, run)
    validation = predict_split(predictor, splits["val"])
    thresholds, uncertain = choose_thresholds(
        validation.probabilities,
        validation.targets,
        run.classes,
        multi_label=run.multi_label,
        where=run.data,
        rule=run.recipe.thresholds,
    )
    predictions = dataclasses.replace(
        validation if split == "val" else predict_split(predictor, splits[split]),
        thresholds=thresholds,
    )
    return ClassificationConclusion(
        run=run,
        dataset=dataset,
        fitted=fitted,
        predictions=predictions,
        images=splits[split].images,
        evaluation=evaluate_predictions(predictions, prior, split=split, seed=run.seed),
        profile=profile_model(model),
        machine=describe_machine(),
        notes=(*collected, *uncertain),
    )
