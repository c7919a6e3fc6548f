"""The end of a run: evaluate the best weights, measure the cost, and write it all down."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from gossamer.checkpoint import load_model
from gossamer.data import ClassificationDataset
from gossamer.data.preparation.classification import PreparedImages
from gossamer.data.preparation.segmentation import PreparedCases
from gossamer.errors import ErrorCode, Note
from gossamer.evaluation.classification import evaluate_predictions
from gossamer.evaluation.predictions import predict_split
from gossamer.evaluation.thresholds import choose_thresholds
from gossamer.files import write_json, write_text
from gossamer.profiling.machine import describe_machine
from gossamer.profiling.network import profile_model
from gossamer.report.classification_page import render_run
from gossamer.training.conclusion import ClassificationConclusion
from gossamer.training.loop import Fitted
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.run_predictor import classification_predictor


def conclude(
    folder: RunFolder,
    run: RunConfig,
    dataset: ClassificationDataset,
    fitted: Fitted,
    splits: Mapping[str, PreparedImages],
    notes: Sequence[Note],
) -> ClassificationConclusion:
    """Evaluate the best weights of ``folder``, measure them, and write thresholds, predictions, summary and report.

    Thresholds of labels are chosen on the validation split. The test split is evaluated; where there is none, the
    validation split, with a note, since it has chosen the epoch.

    Args:
        folder: of the run.
        run: its config.
        dataset: what it was trained on.
        fitted: how training went.
        splits: the prepared images of every split that the data have.
        notes: what was decided on the way.
    """
    notes = [*dataset.notes, *notes]
    split = "test" if "test" in splits else "val"
    if split == "val":
        text = (
            "there is no test split; the figures are of the validation split, which chose the epoch and the "
            "thresholds, and are optimistic"
        )
        notes.append(Note(ErrorCode.LABEL, run.data, text))
    notes += [note for part in splits.values() for note in part.notes]
    notes += shared_pixels(run.data, splits.values())
    prepared, prior = splits[split], splits["train"].targets.mean(axis=0)
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
    notes += uncertain
    predictions = dataclasses.replace(
        validation if split == "val" else predict_split(predictor, prepared),
        thresholds=thresholds,
    )
    conclusion = ClassificationConclusion(
        run=run,
        dataset=dataset,
        fitted=fitted,
        predictions=predictions,
        images=prepared.images,
        evaluation=evaluate_predictions(predictions, prior, split=split, seed=run.seed),
        profile=profile_model(model),
        machine=describe_machine(),
        notes=tuple(notes),
    )
    if thresholds is not None:
        write_json(folder.thresholds, thresholds.to_json())
    predictions.write_csv(folder.predictions)
    write_text(folder.report, render_run(conclusion))
    write_json(folder.summary, conclusion.to_json())
    return conclusion


def shared_pixels(source: str, parts: Iterable[PreparedImages | PreparedCases]) -> list[Note]:
    """Return a note where images of different splits have equal pixels."""
    splits: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        for sample, fingerprint in zip(part.samples, part.fingerprints, strict=True):
            splits[fingerprint].add(sample.split)
    shared = sum(len(found) > 1 for found in splits.values())
    if not shared:
        return []
    return [
        Note(ErrorCode.LABEL, source, f"{shared} images occur in several splits; the figures are too good by that much")
    ]
