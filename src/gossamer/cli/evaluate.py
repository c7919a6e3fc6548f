"""``gossamer evaluate``: a trained run on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.cli.answer import Answer, Common, progress, require_torch, set_threads
from gossamer.errors import ErrorCode, GossamerError

if TYPE_CHECKING:
    from rich.table import Table

    from gossamer.evaluate.evaluate import Evaluation


def evaluate(
    run: Path,
    data: Path,
    /,
    *,
    split: str = "test",
    out: Path | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Evaluate a trained run on labelled images.

    Labels are matched to the run's classes by name. The trivial classifier knows the class frequencies of the data's
    training split, or of the evaluated one where there is none.

    Example: gossamer evaluate runs/chest other-hospital/ --split test

    Args:
        run: folder of a run.
        data: a MedMNIST npz, a folder of class folders, or a CSV manifest.
        split: train, val or test; all for every image.
        out: CSV file for the prediction of each image.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_torch("evaluate")
    set_threads(threads)
    from gossamer.checkpoint import load_model
    from gossamer.data import open_dataset
    from gossamer.data.datasets import SPLITS
    from gossamer.data.datasets.prepare import prepare
    from gossamer.evaluate.evaluate import class_frequencies, evaluate_predictions
    from gossamer.evaluate.predictions import predict_split
    from gossamer.train.run import RunFolder

    if split not in (*SPLITS, "all"):
        raise GossamerError(
            ErrorCode.CONFIG, "--split", f"there is no split {split!r}", f"use {', '.join(SPLITS)} or all"
        )
    config = RunFolder(run).read_config()
    model = load_model(run)
    dataset = open_dataset(data, seed=config.seed)
    if dataset.faults:
        raise dataset.faults[0]
    samples = dataset.samples if split == "all" else dataset.split(split)
    with progress("reading images") as tick:
        prepared = prepare(dataset, samples, config.preprocessing, config.classes, tick)
    predictions = predict_split(model, prepared, config.classes, multi_label=config.multi_label)
    prior = class_frequencies(dataset, config.classes, split)
    result = evaluate_predictions(predictions, prior, split=split, seed=config.seed)
    if out is not None:
        predictions.write_csv(out)
    notes = [note.to_json() for note in (*dataset.notes, *prepared.notes)]
    return Answer(
        {"run": str(run), "data": str(data), **result.to_json(), "notes": notes}, metrics_table(result, str(data))
    )


def metrics_table(evaluation: Evaluation, source: str) -> Table:
    """Return an evaluation as a table for people."""
    from rich.table import Table

    from gossamer.report.page import metric_rows

    title = f"{source}, {evaluation.split} split, {evaluation.samples} images"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("metric", "value", "95 % interval", "trivial"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for row in metric_rows(evaluation):
        estimate = row["estimate"]
        interval = f"{estimate.low:.3f} to {estimate.high:.3f}"
        table.add_row(row["label"], f"{estimate.value:.3f}", interval, f"{row['trivial']:.3f}")
    return table
