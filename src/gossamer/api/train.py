"""``gossamer.train``: from labelled images to a trained, evaluated and reported model."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch.random import fork_rng

from gossamer.api.environment import require_training_packages, torch_threads
from gossamer.api.progress import choose_progress
from gossamer.api.run import Run
from gossamer.api.tasks import task_of
from gossamer.arguments import checked_arguments
from gossamer.data import SPLITS, Dataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.profiling.machine import describe_machine
from gossamer.progress import SILENT, Progress
from gossamer.report.figures import VALIDATION_METRICS, plot_learning_curves, write_png
from gossamer.report.page import PageOrigin, format_command
from gossamer.training.callbacks import EpochDone, Event, TrainingInterrupted
from gossamer.training.initial_weights import InitialWeights
from gossamer.training.job import count_processes, process_rank
from gossamer.training.loop import fit_network
from gossamer.training.options import TrainOptions, read_options
from gossamer.training.plan import name_run
from gossamer.training.plan_memory import plan_memory
from gossamer.training.resolve_model import choose_network
from gossamer.training.run_folder import RunConfig, RunFolder, read_base_config
from gossamer.training.tasks import training_task

__all__ = ["TrainingInterrupted", "train"]


@checked_arguments
def train(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    config: str | Path | None = None,
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
        config: ``config.yaml`` of another run, or its folder, whose task, network, initial weights, recipe, windows and
            seed are taken; ``options`` replace single values. What is fitted to the data (preprocessing, channels,
            classes) is fitted anew, so that the same data gives the same weights (default: none).
        threads: Number of CPU threads (default: all available, or as many as the resumed run had).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).
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
    shown = choose_progress(progress) if process_rank() == 0 else SILENT
    if resume is not None:
        if options or config is not None:
            problem = "a resumed run keeps its own options"
            raise GossamerError(ErrorCode.CONFIG, "resume", problem, "omit the other options, or start a new run")
        origin = PageOrigin(format_command("train", resume=resume))
        return _resume_run(RunFolder(Path(resume)), out, threads, shown, origin)
    assert data is not None
    origin = PageOrigin(format_command("train", data, config=config, **options, out=out))
    base = None if config is None else read_base_config(Path(config))
    if base is not None:
        given = {name: value for name, value in options.items() if value is not None}
        options = {"task": base.task, "seed": base.seed, **given}
    place = None if out is None else Path(out)
    return _start_run(Path(data), place, read_options(options), base, threads, shown, origin)


def _start_run(
    data: Path,
    out: Path | None,
    options: TrainOptions,
    base: RunConfig | None,
    threads: int | None,
    progress: Progress,
    origin: PageOrigin,
) -> Run:
    with torch_threads(threads, count_processes()) as used, fork_rng():
        dataset = open_dataset(data, seed=options.seed, task=options.task)
        choice = choose_network(dataset.task, options, base)
        folder = RunFolder(out or Path("runs") / name_run(dataset, choice, options.seed))
        if process_rank() == 0:
            folder.require_absent()
        training = training_task(dataset.task)
        draft = training.draft_run(dataset, options, choice, base)
        recipe, memory = plan_memory(
            draft.model,
            draft.recipe,
            draft.kept_images,
            recompute=draft.recipe.recompute or options.recompute,
            processes=count_processes(),
            on_stage=progress.show_message,
        )
        run, notes = training.complete_run(dataset, options, dataclasses.replace(draft, recipe=recipe))
        splits = _read_splits(run, dataset, progress)
        if process_rank() == 0:
            folder.create()
            folder.write_config(run, {**describe_machine(), "threads": used, "processes": count_processes()})
        if memory is not None:
            progress.show_message(memory)
        return _fit_and_conclude(run, dataset, splits, folder, notes, progress, origin, initial=choice.initial)


def _resume_run(
    folder: RunFolder, out: str | Path | None, threads: int | None, progress: Progress, origin: PageOrigin
) -> Run:
    run = folder.read_config()
    if out is not None:
        problem = "has no effect on a resumed run, which stays in its folder"
        raise GossamerError(ErrorCode.CONFIG, "out", problem, "omit out, or start a new run")
    with torch_threads(folder.read_threads() if threads is None else threads, count_processes()), fork_rng():
        dataset = open_dataset(Path(run.data), seed=run.seed, task=run.task)
        if dataset.fingerprint() != run.data_fingerprint:
            problem = "samples, labels or splits differ from those that the run was started with"
            raise GossamerError(ErrorCode.INTEGRITY, run.data, problem, "restore the data, or start a new run")
        splits = _read_splits(run, dataset, progress)
        return _fit_and_conclude(run, dataset, splits, folder, (), progress, origin, resume=True)


def _read_splits(run: RunConfig, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Return every split of the data, prepared: an image that cannot be used is found before training."""
    training = training_task(run.task)
    present = [split for split in SPLITS if any(sample.split == split for sample in dataset.samples)]
    splits = {split: training.prepare_samples(run, dataset, dataset.split(split), progress) for split in present}
    training.require_classes(run, splits["train"])
    return splits


def _fit_and_conclude(
    run: RunConfig,
    dataset: Dataset,
    splits: dict[str, Any],
    folder: RunFolder,
    notes: Sequence[Note],
    progress: Progress,
    origin: PageOrigin,
    *,
    initial: InitialWeights | None = None,
    resume: bool = False,
) -> Run:
    task, first = task_of(run.task), process_rank() == 0
    if first:
        progress.show_message(_describe_data(dataset))
        progress.show_message(task.describe_run(run))
        _show_notes(dataset, (*dataset.notes, *notes), progress)
    with progress.track_steps("training") as update:
        observers = (_show_training(progress, update), _draw_curves(folder, run.monitor)) if first else ()
        fitted = fit_network(
            run, folder, splits["train"], splits["val"], initial=initial, resume=resume, observers=observers
        )
    if not first:
        return Run(folder.path, run, None)
    progress.show_message("evaluating and measuring")
    conclusion = training_task(run.task).conclude_run(folder, run, dataset, fitted, splits, notes, progress)
    task.write_conclusion(folder, conclusion, origin)
    _show_notes(dataset, (note for note in conclusion.notes if note not in (*dataset.notes, *notes)), progress)
    return Run(folder.path, run, conclusion)


def _describe_data(dataset: Dataset) -> str:
    counts = Counter(sample.split for sample in dataset.samples)
    sizes = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    classes = f"{len(dataset.classes)} class" + ("" if len(dataset.classes) == 1 else "es")
    return f"{dataset.source}: {dataset.layout} layout, {classes}, {sizes}"


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
