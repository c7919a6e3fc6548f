"""The predictor of classes: an image in, the probability of each class and a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from gossamer.data.image import Image
from gossamer.errors import ErrorCode, Note
from gossamer.inference.bundle import Bundle
from gossamer.inference.decisions import chosen_classes, join_names, require_finite
from gossamer.inference.manifest import MANIFEST
from gossamer.inference.predictor import ImageLike, Predictor
from gossamer.summary import Result, SummaryTable


@dataclass(frozen=True, repr=False, eq=False)
class ClassPrediction(Result):
    """The predicted classes of one image.

    Attributes:
        source: Path of the image, or what it was made from.
        name: Predicted classes, joined by ``|``; ``-`` for none.
        classes: Names of the probabilities.
        probabilities: Probability of each class, ``(classes,)``.
        notes: Remarks made while reading the image.
    """

    source: str
    name: str
    classes: tuple[str, ...]
    probabilities: np.ndarray
    notes: tuple[Note, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as data."""
        return {
            "path": self.source,
            "prediction": self.name,
            "probabilities": dict(zip(self.classes, self.probabilities.tolist(), strict=True)),
            "notes": [note.to_json() for note in self.notes],
        }

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the probabilities of the classes as a table."""
        rows = tuple((name, f"{p:.3f}") for name, p in zip(self.classes, self.probabilities, strict=True))
        return (SummaryTable(f"{self.source}: {self.name}", ("class", "probability"), rows),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ClassificationPredictor(Predictor):
    """A trained network with its preprocessing that predicts the classes of an image."""

    task: ClassVar[Literal["classify"]] = "classify"

    def predict(self, image: ImageLike) -> ClassPrediction:
        """Return the classes of one image with their probabilities.

        Args:
            image: Image, stored values ``(rows, columns[, channels])``, or the path of a file.

        Raises:
            GossamerError: The image cannot be read or used, or ``E-VALUE`` if its probabilities are not finite.
        """
        opened = self.as_image(image)
        probabilities = self.image_probabilities(opened)
        chosen = chosen_classes(probabilities[None], multi_label=self.multi_label, thresholds=self.thresholds)
        name = join_names(chosen, self.classes)[0]
        return ClassPrediction(opened.source, name, self.classes, probabilities, opened.notes)

    def image_probabilities(self, image: Image) -> np.ndarray:
        """Return the probability of each class of one image, ``(classes,)``.

        Raises:
            GossamerError: The image cannot be used, or ``E-VALUE`` if its probabilities are not finite.
        """
        probabilities = self.probabilities(self.preprocessing.network_input(image)[None])[0]
        require_finite(probabilities, image.source)
        return probabilities


def bundle_predictor(bundle: Bundle) -> ClassificationPredictor:
    """Return the predictor of a bundle whose task is classification."""
    manifest, where = bundle.manifest, bundle.path / MANIFEST
    thresholds, notes = manifest.read_thresholds(where), ()
    if manifest.output.multi_label and thresholds is None:
        notes = (missing_thresholds_note(str(bundle.path), "thresholds"),)
    return ClassificationPredictor(
        network=bundle.compute_logits,
        preprocessing=manifest.read_preprocessing(where),
        classes=manifest.output.classes,
        multi_label=manifest.output.multi_label,
        thresholds=thresholds,
        seed=bundle.read_seed(),
        facts=bundle.facts,
        notes=notes,
    )


def missing_thresholds_note(where: str, lacks: str) -> Note:
    """Return the note that the labels of a multi-label model are decided at 0.5, since it has no thresholds."""
    return Note(ErrorCode.LABEL, where, f"has no {lacks}: a label is predicted above 0.5")
