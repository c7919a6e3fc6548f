"""Image files to a table of predicted classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gossamer.data.io.formats import PICTURES, has_suffix, list_suffixes
from gossamer.data.io.rle import Order
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import require_new_file, write_text
from gossamer.inference.classification import ClassificationPredictor, ClassPrediction
from gossamer.inference.decisions import Thresholds, to_csv
from gossamer.inference.input_files import (
    InputErrors,
    errors_to_json,
    no_images,
    none_usable,
    require_image_path,
    write_errors,
)
from gossamer.progress import SILENT, Progress, Update
from gossamer.summary import Result, SummaryTable


@dataclass(repr=False)
class ClassificationResults(Result):
    """The predicted classes of several images.

    Attributes:
        classes: Names of the probabilities.
        predictions: Prediction of every image that could be used.
        errors: Errors of the other images, with their paths.
        thresholds: Thresholds that decided; None where the largest probability, or 0.5, did.
        facts: Origin of the model as data.
        notes: Remarks on the model.
        out: Path of the table that was written, if any.
    """

    classes: tuple[str, ...]
    predictions: list[ClassPrediction] = field(default_factory=list)
    errors: InputErrors = field(default_factory=list)
    thresholds: Thresholds | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    out: Path | None = None

    def table(self) -> list[list[str]]:
        """Return a heading and one row for each image: path, prediction, probabilities."""
        rows = [["path", "prediction", *(f"p({name})" for name in self.classes)]]
        return rows + [[one.source, one.name, *(f"{p:.6f}" for p in one.probabilities)] for one in self.predictions]

    def to_csv(self) -> str:
        """Return the table as CSV text."""
        return to_csv(self.table())

    def to_dict(self) -> dict[str, Any]:
        """Return the predictions as data."""
        return {
            **self.facts,
            "thresholds": None if self.thresholds is None else self.thresholds.to_json(),
            "predictions": [one.to_dict() for one in self.predictions],
            "errors": errors_to_json(self.errors),
            "notes": [note.to_json() for note in self.notes],
        }

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the table of predictions, or one line where it was written to a file."""
        if self.out is not None:
            return (SummaryTable(f"wrote {len(self.predictions)} predictions to {self.out}", (), ()),)
        heading, *rows = self.table()
        unusable = f"{len(self.errors)} images could not be used" if self.errors else ""
        return (SummaryTable("", tuple(heading), tuple(tuple(row) for row in rows), unusable),)


def find_inputs(predictor: ClassificationPredictor, paths: Sequence[Path]) -> list[Path]:
    """Return the files among ``paths`` and the images inside its folders, in order.

    Args:
        predictor: Predictor of the images.
        paths: Files and folders.

    Raises:
        GossamerError: ``E-MISSING`` for a path that does not exist or where there is no image, ``E-UNSUPPORTED`` for a
            data set in one file.
    """
    files: list[Path] = []
    for path in paths:
        require_image_path(path)
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [file for file in inside if file.is_file() and (file == path or has_suffix(file, PICTURES))]
    if not files:
        raise no_images(paths, list_suffixes(PICTURES))
    return files


def predict_inputs(
    predictor: ClassificationPredictor,
    inputs: Sequence[Path],
    out: Path | None = None,
    *,
    strict: bool = False,
    update: Update = lambda done, total: None,
) -> ClassificationResults:
    """Classify files, one after the other, and write the table of them. An unusable image does not stop the others.

    Args:
        predictor: Predictor of the images.
        inputs: Files, as ``find_inputs`` returns them.
        out: Path of a CSV file (default: none is written).
        strict: Whether to raise the first error.
        update: Function called with the number of images done and their total.

    Raises:
        GossamerError: No image can be used, or the first unusable one if ``strict``.
    """
    # Of two classes the larger probability decides; their threshold only marks where evaluation measures.
    thresholds = predictor.thresholds if predictor.multi_label else None
    results = ClassificationResults(
        predictor.classes, thresholds=thresholds, facts=predictor.facts, notes=predictor.notes, out=out
    )
    for done, file in enumerate(inputs, start=1):
        try:
            image = predictor.read_image(file)
            predictor.lap("read")
            prediction = predictor.predict(image)
        except GossamerError as error:
            if strict:
                raise
            results.errors.append((file, error))
            predictor.lap("read")
        else:
            results.predictions.append(replace(prediction, source=str(file)))
            predictor.lap("postprocess")
        update(done, len(inputs))
    if results.errors and not results.predictions:
        raise none_usable(results.errors)
    if out is not None:
        write_text(out, results.to_csv())
        write_errors(results.errors, out.parent)
        predictor.lap("write")
    return results


def predict_paths(
    predictor: ClassificationPredictor,
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    strict: bool = False,
    rle_order: Order | None = None,
    progress: Progress = SILENT,
) -> ClassificationResults:
    """Classify the images among files and folders.

    Args:
        predictor: Predictor of the images.
        paths: Files and folders.
        out: Path of a CSV file that does not exist (default: none is written).
        strict: Whether to stop at the first image that cannot be used.
        rle_order: Option of segmentation, refused here.
        progress: Receiver of notes and of the number of images done.

    Raises:
        GossamerError: ``E-CONFIG`` for an option of segmentation, ``E-OUTPUT`` if ``out`` exists, ``E-MISSING`` or
            ``E-UNSUPPORTED`` for a path; no image can be used, or the first unusable one if ``strict``.
    """
    if rle_order is not None:
        problem = "is an option of segmentation, this model classifies"
        raise GossamerError(ErrorCode.CONFIG, "rle_order", problem, "leave it out")
    if out is not None:
        require_new_file(out)
    for note in predictor.notes:
        progress.show_message(f"note: {note}")
    inputs = find_inputs(predictor, paths)
    with progress.track_steps("predicting") as update:
        return predict_inputs(predictor, inputs, out, strict=strict, update=update)
