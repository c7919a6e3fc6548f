"""``gossamer evaluate``: a trained run, or a bundle, on labelled images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gossamer.api.environment import require_training_packages, set_torch_threads
from gossamer.api.progress import choose_progress
from gossamer.cli.output import Answer, Common, progress
from gossamer.errors import ErrorCode, GossamerError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from gossamer.cli.predict import Model
    from gossamer.evaluation.bootstrap import Estimate
    from gossamer.evaluation.classification import ClassificationEvaluation
    from gossamer.evaluation.segmentation import SegmentationEvaluation
    from gossamer.inference.classification import ClassificationPredictor
    from gossamer.inference.segmentation import SegmentationPredictor


def evaluate(
    run: Path,
    data: Path,
    /,
    *,
    split: str = "test",
    out: Path | None = None,
    tolerance: float | None = None,
    engine: Literal["onnxruntime", "openvino"] | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Evaluate a trained run or a bundle on labelled images.

    Labels are matched to the run's classes by name, and several labels are decided by the thresholds that the run chose
    on its own validation split. The trivial classifier knows the class frequencies of the data's
    training split, or of the evaluated one where there is none.

    Example: gossamer evaluate runs/chest other-hospital/ --split test

    Args:
        run: folder of a run, or a bundle.
        data: what gossamer train takes, with classes or with masks as the run was trained on.
        split: train, val or test; all for every image.
        out: CSV file: the prediction of each image, or the metrics of each case and class.
        tolerance: of surface Dice, in mm, or in pixels where images have no spacing; 1 if left out.
        engine: what computes a bundle, onnxruntime if left out; openvino comes with the extra of that name.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_training_packages("evaluate")
    set_torch_threads(threads)  # of the metrics, and of a run
    from gossamer.cli.predict import open_model
    from gossamer.data import SPLITS

    if split not in (*SPLITS, "all"):
        raise GossamerError(
            ErrorCode.CONFIG, "--split", f"there is no split {split!r}", f"use {', '.join(SPLITS)} or all"
        )
    if out is not None and out.exists():
        raise GossamerError(ErrorCode.OUTPUT, out, "exists already", "give another --out, or remove it")
    model = open_model(run, engine, threads)
    if model.masks is not None:
        return _evaluate_masks(model, model.masks, data, split, out, tolerance)
    if tolerance is not None:
        problem = "is an option of segmentation, this run classifies"
        raise GossamerError(ErrorCode.CONFIG, "--tolerance", problem, "leave it out")
    assert model.classifier is not None
    return _evaluate_classes(model, model.classifier, data, split, out)


def _evaluate_classes(
    model: Model, classifier: ClassificationPredictor, data: Path, split: str, out: Path | None
) -> Answer:
    from gossamer.data import open_dataset
    from gossamer.data.preparation.classification import prepare_split
    from gossamer.evaluation.classification import class_frequencies, evaluate_predictions
    from gossamer.evaluation.predictions import classify_split

    dataset = open_dataset(data, seed=model.seed, task="classify")
    if dataset.faults:
        raise dataset.faults[0]
    samples = dataset.samples if split == "all" else dataset.split(split)
    prepared = prepare_split(dataset, samples, classifier.preprocessing, classifier.classes, choose_progress(True))
    predictions = classify_split(classifier, prepared)
    prior = class_frequencies(dataset, classifier.classes, split)
    result = evaluate_predictions(predictions, prior, split=split, seed=model.seed)
    if out is not None:
        predictions.write_csv(out)
    notes = [note.to_json() for note in (*dataset.notes, *prepared.notes, *model.notes)]
    return Answer(
        {**model.facts, "data": str(data), **result.to_json(), "notes": notes},
        _tables(result, str(data), multi_label=classifier.multi_label),
    )


def _evaluate_masks(
    model: Model, masks: SegmentationPredictor, data: Path, split: str, out: Path | None, tolerance: float | None
) -> Answer:
    from gossamer.data import open_dataset
    from gossamer.evaluation.segmentation import evaluate_cases
    from gossamer.evaluation.segmentation_metrics import TOLERANCE

    if tolerance is not None and tolerance <= 0:
        raise GossamerError(ErrorCode.CONFIG, "--tolerance", f"{tolerance} is not positive", "use 1")
    dataset = open_dataset(data, seed=model.seed, task="segment")
    dataset.require_faultless()
    samples = dataset.samples if split == "all" else dataset.split(split)
    with progress("segmenting") as tick:
        result = evaluate_cases(
            masks, dataset, samples, split=split, tolerance=tolerance or TOLERANCE, seed=model.seed, on_progress=tick
        )
    if out is not None:
        result.write_csv(out)
    notes = [note.to_json() for note in dataset.notes]
    return Answer(
        {**model.facts, "data": str(data), **result.to_json(), "notes": notes}, masks_table(result, str(data))
    )


def masks_table(evaluation: SegmentationEvaluation, source: str) -> Table:
    """Return an evaluation of masks as a table for people."""
    from rich.table import Table

    from gossamer.report.segmentation_page import metric_rows

    title = f"{source}, {evaluation.split} split, {len(evaluation.cases)} cases"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    classes = evaluation.classes if len(evaluation.classes) > 1 else ()
    for heading in ("metric", "mean", "95 % interval", *classes, "nothing"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for row in metric_rows(evaluation):
        estimate = row["estimate"]
        each = [f"{value.value:.3f}" for value in row["classes"]] if classes else []
        each += [""] * (len(classes) - len(each))
        table.add_row(row["label"], f"{estimate.value:.3f}", _interval(estimate), *each, f"{row['trivial']:.3f}")
    return table


def _tables(evaluation: ClassificationEvaluation, source: str, *, multi_label: bool) -> Table | Group:
    from rich.console import Group

    table = metrics_table(evaluation, source)
    return Group(table, labels_table(evaluation)) if multi_label else table


def metrics_table(evaluation: ClassificationEvaluation, source: str) -> Table:
    """Return an evaluation as a table for people."""
    from rich.table import Table

    from gossamer.report.classification_page import metric_rows

    title = f"{source}, {evaluation.split} split, {evaluation.samples} images"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    nothing = [] if evaluation.nothing is None else ["no label"]
    for heading in ("metric", "value", "95 % interval", "trivial", *nothing):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for row in metric_rows(evaluation):
        estimate = row["estimate"]
        compared = [_decimal(row[key]) for key in ("trivial", *(["nothing"] if nothing else []))]
        table.add_row(row["label"], _decimal(estimate.value), _interval(estimate), *compared)
    return table


def labels_table(evaluation: ClassificationEvaluation) -> Table:
    """Return each label by itself as a compact table for people, the best ranked first."""
    from rich.table import Table

    from gossamer.report.labels import sort_by_auroc

    table = Table(box=None, pad_edge=False)
    headings = ("label", "with it", "AUROC", "95 % interval", "AP", "threshold", "sensitivity", "specificity")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for label in sort_by_auroc(evaluation.labels):
        m, cut = label.metrics, f"{label.threshold:.3f}" if label.chosen else "0.5 kept"
        decided = [_decimal(m[name].value) for name in ("average_precision", "sensitivity", "specificity")]
        table.add_row(
            label.name, f"{label.prevalence:.1%}", _decimal(m["auroc"].value), _interval(m["auroc"]), decided[0], cut,
            *decided[1:],
        )  # fmt: skip
    return table


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    return "–" if math.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"
