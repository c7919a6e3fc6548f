"""``gossamer.evaluate``: a trained model on labelled images."""

from __future__ import annotations

from pathlib import Path

from gossamer.api.load import as_predictor
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments
from gossamer.evaluation.results import EvaluationResults, require_options
from gossamer.evaluation.tasks import EVALUATION_TASKS
from gossamer.inference.engines import EngineName
from gossamer.inference.predictor import Predictor
from gossamer.progress import Progress


@checked_arguments
def evaluate(
    model: Path | str | Predictor,
    data: Path | str,
    *,
    split: str = "test",
    out: Path | str | None = None,
    tolerance: float | None = None,
    engine: EngineName | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> EvaluationResults:
    """Evaluate a trained model on labelled images. A bundle needs no PyTorch.

    Labels are matched to the classes of the model by name. The trivial classifier knows the class frequencies of the
    training split of ``data``, or of the evaluated split where there is none.

    Args:
        model: Folder of a run or a bundle, or a predictor of ``gossamer.load``.
        data: Data set in a layout that ``gossamer.train`` takes, with labels of the task of the model.
        split: ``train``, ``val``, ``test``, or ``all`` for every image.
        out: Path of a CSV file for the prediction of each image, or the metrics of each case and class (default: none
            is written).
        tolerance: Tolerance of surface Dice in mm, or in pixels where images have no spacing (default: 1).
        engine: Engine that computes a bundle (default: ``onnxruntime``).
        threads: Number of CPU threads (default: all available).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Raises:
        GossamerError: The model, the data or an option cannot be used.
    """
    out = None if out is None else Path(out)
    require_options(split, out)
    predictor = as_predictor(model, engine, threads)
    run = EVALUATION_TASKS[predictor.task]
    return run(predictor, Path(data), split=split, out=out, tolerance=tolerance, progress=choose_progress(progress))
