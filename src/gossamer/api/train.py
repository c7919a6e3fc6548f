"""``gossamer.train``: from labelled images to a trained, evaluated and reported model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gossamer.api.environment import require_training_packages, torch_threads
from gossamer.api.progress import choose_progress
from gossamer.api.run import Run
from gossamer.data import SPLITS, ClassificationDataset, SegmentationDataset, open_dataset
from gossamer.data.preparation.classification import prepare_split
from gossamer.data.preparation.segmentation import absent_classes
from gossamer.data.preparation.segmentation import prepare_split as prepare_cases
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.profiling.machine import describe_machine
from gossamer.progress import SILENT, Progress
from gossamer.report.figures import VALIDATION_METRICS, plot_learning_curves, write_png
from gossamer.report.segmentation_page import write_run
from gossamer.training.callbacks import EpochDone, Event, TrainingInterrupted
from gossamer.training.conclude import conclude
from gossamer.training.loop import fit_network, global_rank, world_size
from gossamer.training.mask_conclusion import conclude_masks
from gossamer.training.options import TrainOptions, read_options
from gossamer.training.plan import plan_run, run_name
from gossamer.training.plan_memory import plan_memory
from gossamer.training.run_folder import RunConfig, RunFolder

__all__ = ["TrainingInterrupted", "train"]

Dataset = ClassificationDataset | SegmentationDataset


def train(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
    **options: Any,
) -> Run:
    """Train a network on labelled images, evaluate it and write a report.

    With the same data, options, seed and number of threads, the weights are those of ``gossamer train``, bit for bit.

    Example:
        >>> run = gossamer.train("chest/", model="vit_tiny", epochs=10, out="runs/chest")  # doctest: +SKIP
        >>> run.metrics["auroc"].value, run.report  # doctest: +SKIP

    Args:
        data: Images with classes or with masks, in any layout of ``gossamer.open_dataset``.
        out: Run folder, which must not exist (default: runs/<data>-<model>-<attention>-<seed>).
        resume: Folder of a stopped run to finish, with its own data and options; replaces ``data``.
        threads: Number of CPU threads (default: all available, or as many as the resumed run had).
        progress: True to show progress, or an object to report to (default: silent).
        **options: Fields of ``gossamer.training.options.TrainOptions``, such as ``model`` and ``epochs``.

    Returns:
        The finished run. Under torchrun it is complete in the first process only.

    Raises:
        GossamerError: The data cannot be trained with, or the options contradict it or each other. Nothing is written.
        TrainingInterrupted: SIGINT or SIGTERM stopped the training; it can be resumed.
    """
    require_training_packages("train")
    if (data is None) == (resume is None):
        problem = "needs either data to train on, or a run to resume"
        raise GossamerError(ErrorCode.CONFIG, "gossamer train", problem, "give exactly one of DATA and resume")
    shown = choose_progress(progress) if global_rank() == 0 else SILENT
    if resume is not None:
        if options:
            problem = f"a resumed run keeps its own options, {', '.join(options)} cannot change"
            raise GossamerError(ErrorCode.CONFIG, "resume", problem, "omit the other options, or start a new run")
        return _resume_run(RunFolder(Path(resume)), threads, shown)
    assert data is not None
    return _start_run(Path(data), None if out is None else Path(out), read_options(options), threads, shown)


def _start_run(data: Path, out: Path | None, options: TrainOptions, threads: int | None, progress: Progress) -> Run:
    with torch_threads(threads, world_size()) as used:
        dataset = open_dataset(data, seed=options.seed, task=options.task)
        folder = RunFolder(out or Path("runs") / run_name(dataset, options))
        if global_rank() == 0:
            folder.require_absent()
        memory: list[str | None] = []

        def settle(model: Any, recipe: Any) -> Any:
            images = len(dataset.samples) if model.task == "classify" else 0
            changed, line = plan_memory(
                model,
                recipe,
                images,
                recompute=options.recompute,
                processes=world_size(),
                on_stage=progress.show_message,
            )
            memory.append(line)
            return changed

        run, notes = plan_run(dataset, options, settle)
        splits = _read_images(run, dataset, progress)
        if global_rank() == 0:
            folder.create()
            folder.write_config(run, {**describe_machine(), "threads": used, "processes": world_size()})
        for line in memory:
            if line is not None:
                progress.show_message(line)
        return _fit_and_conclude(run, dataset, splits, folder, notes, progress, resume=False)


def _resume_run(folder: RunFolder, threads: int | None, progress: Progress) -> Run:
    run = folder.read_config()
    with torch_threads(folder.read_threads() if threads is None else threads, world_size()):
        dataset = open_dataset(Path(run.data), seed=run.seed, task=run.task)
        if dataset.fingerprint() != run.data_fingerprint:
            problem = "samples, labels or splits differ from those that the run was started with"
            raise GossamerError(ErrorCode.INTEGRITY, run.data, problem, "restore the data, or start a new run")
        return _fit_and_conclude(run, dataset, _read_images(run, dataset, progress), folder, (), progress, resume=True)


def _read_images(run: RunConfig, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Return every split of the data, prepared: an image that cannot be used is found before training."""
    splits: dict[str, Any] = {}
    for split in (name for name in SPLITS if any(sample.split == name for sample in dataset.samples)):
        samples = dataset.split(split)
        if isinstance(dataset, ClassificationDataset):
            splits[split] = prepare_split(dataset, samples, run.preprocessing, run.classes, progress)
        else:
            splits[split] = prepare_cases(dataset, samples, run.preprocessing, progress)
    if isinstance(dataset, SegmentationDataset):
        absent = absent_classes(splits["train"], run.classes, overlapping=run.multi_label)
        if absent:
            problem = f"no training mask holds {', '.join(absent)}"
            remedy = "correct the masks, the splits or the names of classes"
            raise GossamerError(ErrorCode.LABEL, run.data, problem, remedy)
    return splits


def _fit_and_conclude(
    run: RunConfig,
    dataset: Dataset,
    splits: dict[str, Any],
    folder: RunFolder,
    notes: Sequence[Note],
    progress: Progress,
    *,
    resume: bool,
) -> Run:
    first = global_rank() == 0
    if first:
        _announce(run, dataset, notes, progress)
    with progress.track_steps("training") as update:
        observers = (_show_training(progress, update), _draw_curves(folder, run.monitor)) if first else ()
        fitted = fit_network(run, folder, splits["train"], splits["val"], resume=resume, observers=observers)
    if not first:
        return Run(folder.path, run, None)
    progress.show_message("evaluating and measuring")
    if isinstance(dataset, ClassificationDataset):
        conclusion: Any = conclude(folder, run, dataset, fitted, splits, notes)
    else:
        with progress.track_steps("evaluating") as update:
            conclusion = conclude_masks(folder, run, dataset, fitted, splits, notes, update)
        write_run(folder, conclusion)
    _show_notes(dataset, (note for note in conclusion.notes if note not in (*dataset.notes, *notes)), progress)
    return Run(folder.path, run, conclusion)


def _announce(run: RunConfig, dataset: Dataset, notes: Sequence[Note], progress: Progress) -> None:
    model: Any = run.model
    counts = Counter(sample.split for sample in dataset.samples)
    sizes = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    count = f"{len(dataset.classes)} class" + ("" if len(dataset.classes) == 1 else "es")
    progress.show_message(f"{dataset.source}: {dataset.layout} layout, {count}, {sizes}")
    size = "x".join(str(side) for side in model.image_size)
    if run.inference is None:
        grid = getattr(model, "grid", None)
        tokens = "" if grid is None else f", {'x'.join(str(count) for count in grid)} tokens"
        stem = f", {model.stem} stem" if isinstance(getattr(model, "stem", None), str) else ""
        progress.show_message(f"{run.title}: {size} px{tokens}{stem}, seed {run.seed}")
    else:
        stack = f" of {run.inference.stack} slices" if run.inference.stack > 1 else ""
        progress.show_message(f"{run.title}: windows of {size} px{stack}, loss {run.recipe.loss}, seed {run.seed}")
    _show_notes(dataset, (*dataset.notes, *notes), progress)


def _show_notes(dataset: Dataset, notes: Iterable[Note], progress: Progress) -> None:
    for note in notes:
        progress.show_message(f"note: {note.text if note.where == dataset.source else f'{note.where}: {note.text}'}")


def _show_training(progress: Progress, update: Callable[[int, int], None]) -> Callable[[Event], None]:
    """Return an observer that moves a bar with each step and shows a line for each epoch."""
    began = time.monotonic()
    first: list[int] = []

    def show(event: Event) -> None:
        if isinstance(event, EpochDone):
            first.append(len(event.history))
            done = len(event.history) - first[0] + 1
            left = (time.monotonic() - began) / done * (event.epochs - len(event.history))
            progress.show_message(f"{_describe_epoch(event)}, about {left:.0f} s left")
        else:
            update(event.step, event.steps)

    return show


def _describe_epoch(event: EpochDone) -> str:
    row, best = event.history[-1], event.history[event.best_epoch]
    name, label = next((name, label) for name, label in VALIDATION_METRICS.items() if name in row)
    # The validation loss is that of each pixel or image alone, without Dice and without what a network adds.
    validation = "validation cross-entropy" if name == "val_dice" else "validation loss"
    return (
        f"epoch {len(event.history)}/{event.epochs}: loss {row['train_loss']:.3f}, "
        f"{validation} {row['val_loss']:.3f}, "
        f"{label} {row[name]:.3f}, best {best[name]:.3f} at {best['epoch']:.0f}"
    )


def _draw_curves(folder: RunFolder, monitor: str) -> Callable[[Event], None]:
    """Return an observer that redraws the learning curves after each epoch."""

    def draw(event: Event) -> None:
        if isinstance(event, EpochDone):
            write_png(plot_learning_curves(event.history, event.best_epoch, monitor), folder.progress)

    return draw
