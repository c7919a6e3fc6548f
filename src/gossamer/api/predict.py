"""``gossamer.predict``: images without labels to classes or masks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gossamer.api.load import as_predictor
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments
from gossamer.data.io.rle import Order
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.engines import EngineName
from gossamer.inference.predictor import Predictor
from gossamer.inference.tasks import PREDICTION_TASKS, PredictionResults
from gossamer.progress import Progress


@checked_arguments
def predict(
    model: Path | str | Predictor,
    images: Path | str | Iterable[Path | str],
    *,
    out: Path | str | None = None,
    strict: bool = False,
    rle_order: Order | None = None,
    engine: EngineName | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> PredictionResults:
    """Predict the classes or the masks of images in files and folders.

    An image that cannot be used does not stop the others; the results list its error. ``load(model).predict(image)``
    predicts one image in memory.

    Args:
        model: Folder of a run or a bundle, or a predictor of ``gossamer.load``.
        images: A file or folder, or several; folders are searched for images.
        out: Path of a CSV file for classes (default: none is written); a new or empty folder for masks.
        strict: Whether to stop at the first image that cannot be used.
        rle_order: Order in which run lengths of masks count pixels, ``rows`` or ``columns`` (default: ``rows``).
        engine: Engine that computes a bundle (default: ``onnxruntime``).
        threads: Number of CPU threads (default: all available).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Returns:
        The predictions of every usable image and the errors of the others, ``ClassificationResults`` or
        ``SegmentationResults``.

    Raises:
        GossamerError: The model, an option or a path cannot be used, no image can, or the first unusable one if
            ``strict``.
    """
    paths = list_paths(images)
    predictor = as_predictor(model, engine, threads)
    return PREDICTION_TASKS[predictor.task].predict_paths(
        predictor,
        paths,
        out=None if out is None else Path(out),
        strict=strict,
        rle_order=rle_order,
        progress=choose_progress(progress),
    )


def list_paths(images: Path | str | Iterable[Path | str]) -> list[Path]:
    """Return the paths of one or several images.

    Raises:
        GossamerError: ``E-CONFIG`` for anything but paths.
    """
    several = [images] if isinstance(images, Path | str) else list(images)
    for one in several:
        if not isinstance(one, Path | str):
            problem = f"{type(one).__name__} is not a path"
            remedy = "give paths, or predict an image in memory with gossamer.load(model).predict(image)"
            raise GossamerError(ErrorCode.CONFIG, "images", problem, remedy)
    return [Path(one) for one in several]
