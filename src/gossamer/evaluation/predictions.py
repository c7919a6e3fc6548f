"""The predicted probabilities of labelled images, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gossamer.data import Sample
from gossamer.data.preparation.classification import PreparedImages
from gossamer.files import write_text
from gossamer.inference.classification import ClassificationPredictor
from gossamer.inference.decisions import Thresholds, chosen_classes, join_names, to_csv

_BATCH = 64


@dataclass(frozen=True)
class Predictions:
    """Probabilities of labelled images.

    Attributes:
        samples: Images.
        classes: Class names, in the order of the columns.
        multi_label: Whether a sample may have any number of classes.
        probabilities: Probabilities ``(samples, classes)``.
        targets: Truth ``(samples, classes)`` of 0 and 1.
        thresholds: Thresholds of the labels, if some were chosen.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    multi_label: bool
    probabilities: np.ndarray
    targets: np.ndarray
    thresholds: Thresholds | None = None

    def predicted_classes(self) -> np.ndarray:
        """Return which classes are predicted for each sample, bool ``(samples, classes)``."""
        return chosen_classes(self.probabilities, multi_label=self.multi_label, thresholds=self.thresholds)

    def groups(self) -> list[str]:
        """Return the patient of each sample; a sample of an unknown patient is a group by itself."""
        return groups_of(self.samples)

    def correct(self) -> np.ndarray:
        """Return whether exactly the true classes were predicted for each sample."""
        return (self.predicted_classes() == self.targets.astype(bool)).all(axis=1)

    def loss(self) -> np.ndarray:
        """Return the negative log-likelihood of each sample's truth."""
        p = np.clip(self.probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
        if self.multi_label:
            return -np.log(np.where(self.targets > 0, p, 1 - p)).sum(axis=1)
        return -np.log((p * self.targets).sum(axis=1))

    def write_csv(self, path: Path) -> None:
        """Write a row for each sample: id, patient, split, truth, prediction, whether it is correct, probabilities."""
        header = ["id", "patient", "split", "truth", "prediction", "correct", *(f"p({name})" for name in self.classes)]
        truths = join_names(self.targets.astype(bool), self.classes)
        chosen = join_names(self.predicted_classes(), self.classes)
        rows = [
            [s.id, s.patient or "", s.split, truth, name, str(bool(ok)).lower(), *(f"{p:.6f}" for p in probabilities)]
            for s, truth, name, ok, probabilities in zip(
                self.samples, truths, chosen, self.correct(), self.probabilities, strict=True
            )
        ]
        write_text(path, to_csv([header, *rows]))


def groups_of(samples: Sequence[Sample]) -> list[str]:
    """Return the patient of each sample; a sample of an unknown patient is a group by itself."""
    return [f"patient {s.patient}" if s.patient is not None else f"sample {s.id}" for s in samples]


def predict_split(predictor: ClassificationPredictor, split: PreparedImages) -> Predictions:
    """Return the predictions for prepared images."""
    images = split.images
    parts = [predictor.probabilities(images[begin : begin + _BATCH]) for begin in range(0, len(images), _BATCH)]
    return Predictions(
        samples=split.samples,
        classes=predictor.classes,
        multi_label=predictor.multi_label,
        probabilities=np.concatenate(parts),
        targets=split.targets,
        thresholds=predictor.thresholds,
    )
