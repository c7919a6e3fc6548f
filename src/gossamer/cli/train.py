"""``gossamer train``: from a folder of labelled images to a trained, evaluated, reported model."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from gossamer.api.environment import require_training_packages, set_torch_threads
from gossamer.cli.output import Answer, Common, parse_size, progress, say
from gossamer.errors import ErrorCode, GossamerError, Note

if TYPE_CHECKING:
    from gossamer.data import ClassificationDataset, SegmentationDataset
    from gossamer.data.preparation.classification import PreparedImages
    from gossamer.data.preparation.segmentation import PreparedCases
    from gossamer.nn.models import NetworkConfig
    from gossamer.training.conclusion import ClassificationConclusion
    from gossamer.training.mask_conclusion import SegmentationConclusion
    from gossamer.training.options import TrainOptions
    from gossamer.training.recipe import Recipe
    from gossamer.training.run_folder import RunConfig, RunFolder


@Parameter(name="*")
@dataclass(frozen=True)
class TrainArguments:
    """What may be chosen; whatever is left out, the recipe chooses from the data.

    Attributes:
        task: classify or segment; what the data are labelled for if left out.
        model: a preset of gossamer models; vit_tiny or transunet_small if left out.
        attention: a mechanism of gossamer models, or JSON such as '{"name": "soft", "inverse": "cholesky"}';
            sequence_norm for classification, the preset's own for segmentation if left out.
        init: start from the weights of this run, or of this folder of gossamer import-weights; with --attention, their
            mechanism is changed.
        query: what takes the place of queries where the new mechanism has none: the key projection (the default), or
            the mean of both.
        image_size: rows x columns of the network's input, such as 224x224; of segmentation, its window.
        patch_size: side of a patch in pixels.
        stem: how pixels become tokens: by the published patch embedding, or by four convolutions.
        epochs: passes over the training split.
        batch_size: images of a step, over all processes.
        learning_rate: its peak.
        patience: epochs without improvement after which training stops.
        precision: of products in training.
        flips: mirror images that may be used in training; none by default, since sides can matter.
        class_weights: balanced weighs classes by their inverse frequency, in classification.
        thresholds: what the threshold of a label maximizes on the validation split, in classification; f1 if left out.
        recompute: evaluate blocks again in the backward pass, to save memory; where it is needed if left out.
        stack: neighbouring slices of a volume that are seen together, in segmentation; 3 if left out.
        loss: of segmentation.
        seed: of splits, weights, order and augmentation.
    """

    task: Literal["classify", "segment"] | None = None
    model: str | None = None
    attention: str | None = None
    init: Path | None = None
    query: Literal["key", "mean"] | None = None
    image_size: str | None = None
    patch_size: int | None = None
    stem: Literal["patch", "convolutional"] | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    patience: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    flips: Literal["none", "horizontal", "vertical", "both"] | None = None
    class_weights: Literal["balanced", "none"] | None = None
    thresholds: Literal["f1", "youden"] | None = None
    recompute: bool | None = None
    stack: int | None = None
    loss: Literal["dice_ce", "dice_ce_squared", "cross_entropy", "dice"] | None = None
    seed: int = 0

    def wishes(self) -> TrainOptions:
        """Return the options as training takes them."""
        from gossamer.training.options import TrainOptions

        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "image_size"}
        return TrainOptions(**given, image_size=parse_size(self.image_size))


def train(
    data: Path | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    threads: int | None = None,
    options: TrainArguments = TrainArguments(),
    common: Common = Common(),
) -> Answer:
    """Train a network on labelled images, evaluate it and write a report.

    DATA holds images with classes (a MedMNIST npz, class folders, a CSV manifest), or images with masks (paired
    folders, a Medical Segmentation Decathlon or nnU-Net folder, run lengths, ...). Everything goes into one run folder.

    Example: gossamer train chest/ --model vit_tiny --attention sequence_norm --out runs/chest
    Example: gossamer train Task04_Hippocampus/ --task segment --model transunet_small --out runs/hippocampus

    Args:
        data: labelled images.
        out: the run folder; runs/<data>-<model>-<attention>-<seed> if left out. It must not exist.
        resume: go on with this run where it was stopped, with its own data and options.
        threads: of the processor; all that this process may use if left out, or as many as the resumed run had.
        options: choices.
        common: options of every verb.
    """
    require_training_packages("train")
    if (data is None) == (resume is None):
        problem = "wants either DATA or --resume RUN"
        raise GossamerError(
            ErrorCode.CONFIG, "gossamer train", problem, "name the data to train on, or the run to resume"
        )
    if resume is not None and options != TrainArguments():
        problem = "a resumed run keeps its own options"
        raise GossamerError(ErrorCode.CONFIG, "--resume", problem, "leave the other options out, or start a new run")
    conclusion, folder = (
        resume_run(resume, threads) if resume is not None else new_run(data, out, options.wishes(), threads)  # type: ignore[arg-type]
    )
    if conclusion is None:  # another process than the first
        return Answer({})
    return Answer({"run": str(folder.path), **conclusion.to_json()}, summary_text(conclusion, folder))


def new_run(
    data: Path, out: Path | None, wishes: TrainOptions, threads: int | None
) -> tuple[ClassificationConclusion | SegmentationConclusion | None, RunFolder]:
    """Plan and train a new run. The conclusion is None on all processes but the first."""
    from gossamer.data import open_dataset
    from gossamer.profiling.machine import describe_machine
    from gossamer.training.loop import global_rank, world_size
    from gossamer.training.plan import plan_run, run_name
    from gossamer.training.plan_memory import plan_memory
    from gossamer.training.run_folder import RunFolder

    used = set_torch_threads(threads, world_size())
    dataset = open_dataset(data, seed=wishes.seed, task=wishes.task)
    folder = RunFolder(out or Path("runs") / run_name(dataset, wishes))
    if global_rank() == 0:
        folder.require_absent()
    memory: list[str | None] = []

    def settle(model: NetworkConfig, recipe: Recipe) -> Recipe:
        images = len(dataset.samples) if model.task == "classify" else 0
        tell = say if global_rank() == 0 else lambda text: None
        changed, line = plan_memory(
            model, recipe, images, recompute=wishes.recompute, processes=world_size(), on_stage=tell
        )
        memory.append(line)
        return changed

    run, notes = plan_run(dataset, wishes, settle)
    splits = _read_images(run, dataset)
    if global_rank() == 0:
        folder.create()
        folder.write_config(run, {**describe_machine(), "threads": used, "processes": world_size()})
    for line in memory:
        if line is not None and global_rank() == 0:
            say(line)
    return _train(run, dataset, splits, folder, notes, resume=False), folder


def resume_run(
    path: Path, threads: int | None
) -> tuple[ClassificationConclusion | SegmentationConclusion | None, RunFolder]:
    """Go on with the run at ``path``. The conclusion is None on all processes but the first."""
    from gossamer.data import open_dataset
    from gossamer.training.loop import world_size
    from gossamer.training.run_folder import RunFolder

    folder = RunFolder(path)
    run = folder.read_config()
    set_torch_threads(folder.read_threads() if threads is None else threads, world_size())
    dataset = open_dataset(run.data, seed=run.seed, task=run.task)
    if dataset.fingerprint() != run.data_fingerprint:
        problem = "samples, labels or splits are not those that the run was started with"
        raise GossamerError(ErrorCode.INTEGRITY, run.data, problem, "restore the data, or start a new run")
    return _train(run, dataset, _read_images(run, dataset), folder, (), resume=True), folder


def _read_images(
    run: RunConfig, dataset: ClassificationDataset | SegmentationDataset
) -> dict[str, PreparedImages] | dict[str, PreparedCases]:
    """Return every split that the data have, prepared: an image that cannot be used is found before training."""
    from gossamer.api.progress import choose_progress
    from gossamer.data import SPLITS, ClassificationDataset
    from gossamer.data.preparation.classification import prepare_split
    from gossamer.data.preparation.segmentation import prepare_split as prepare_cases

    present = [split for split in SPLITS if any(sample.split == split for sample in dataset.samples)]
    splits: dict[str, Any] = {}
    shown = choose_progress(True)
    for split in present:
        samples = dataset.split(split)
        if isinstance(dataset, ClassificationDataset):
            splits[split] = prepare_split(dataset, samples, run.preprocessing, run.classes, shown)
        else:
            splits[split] = prepare_cases(dataset, samples, run.preprocessing, shown)
    if not isinstance(dataset, ClassificationDataset):
        _require_classes(run, splits["train"])
    return splits


def _require_classes(run: RunConfig, train: PreparedCases) -> None:
    """Refuse classes that no training mask holds: a network would learn that they do not exist."""
    from gossamer.data.preparation.segmentation import absent_classes

    absent = absent_classes(train, run.classes, overlapping=run.multi_label)
    if absent:
        problem = f"no training mask holds {', '.join(absent)}"
        raise GossamerError(ErrorCode.LABEL, run.data, problem, "correct the masks, the splits or the names of classes")


def _train(
    run: RunConfig,
    dataset: ClassificationDataset | SegmentationDataset,
    splits: dict[str, Any],
    folder: RunFolder,
    notes: Sequence[Note],
    *,
    resume: bool,
) -> ClassificationConclusion | SegmentationConclusion | None:
    from gossamer.training.callbacks import Interrupted
    from gossamer.training.loop import fit_network, global_rank

    first = global_rank() == 0
    if first:
        _announce(run, dataset, notes)
    try:
        with _training_display() as show:
            observers = (show, _progress_drawer(folder, run.monitor)) if first else ()
            fitted = fit_network(run, folder, splits["train"], splits["val"], resume=resume, observers=observers)
    except Interrupted as stop:
        if first:
            say(f"gossamer: stopped by {stop}; go on with: gossamer train --resume {folder.path}")
        sys.exit(128 + stop.number)
    if not first:
        return None
    say("evaluating and measuring")
    conclusion = _conclude(folder, run, dataset, fitted, splits, notes)
    _say_notes(dataset, (note for note in conclusion.notes if note not in (*dataset.notes, *notes)))
    return conclusion


def _conclude(
    folder: RunFolder,
    run: RunConfig,
    dataset: ClassificationDataset | SegmentationDataset,
    fitted: Any,
    splits: dict[str, Any],
    notes: Sequence[Note],
) -> ClassificationConclusion | SegmentationConclusion:
    from gossamer.data import ClassificationDataset
    from gossamer.report.segmentation_page import write_mask_run
    from gossamer.training.conclude import conclude
    from gossamer.training.mask_conclusion import conclude_masks

    if isinstance(dataset, ClassificationDataset):
        return conclude(folder, run, dataset, fitted, splits, notes)
    with progress("evaluating") as tick:
        conclusion = conclude_masks(folder, run, dataset, fitted, splits, notes, tick)
    write_mask_run(folder, conclusion)
    return conclusion


def _announce(run: RunConfig, dataset: ClassificationDataset | SegmentationDataset, notes: Sequence[Note]) -> None:
    model: Any = run.model
    counts = Counter(sample.split for sample in dataset.samples)
    sizes = ", ".join(f"{split} {counts[split]}" for split in ("train", "val", "test") if counts[split])
    count = f"{len(dataset.classes)} class" + ("" if len(dataset.classes) == 1 else "es")
    say(f"{dataset.source}: {dataset.layout} layout, {count}, {sizes}")
    attention = f" with {model.attention.name}" if hasattr(model, "attention") else ""
    size = "x".join(str(side) for side in model.image_size)
    if run.inference is None:
        grid = getattr(model, "grid", None)
        tokens = "" if grid is None else f", {'x'.join(str(count) for count in grid)} tokens"
        stem = f", {model.stem} stem" if isinstance(getattr(model, "stem", None), str) else ""
        say(f"{run.preset}{attention}: {size} px{tokens}{stem}, seed {run.seed}")
    else:
        stack = f" of {run.inference.stack} slices" if run.inference.stack > 1 else ""
        say(f"{run.preset}{attention}: windows of {size} px{stack}, loss {run.recipe.loss}, seed {run.seed}")
    _say_notes(dataset, (*dataset.notes, *notes))


def _say_notes(dataset: ClassificationDataset | SegmentationDataset, notes: Iterable[Note]) -> None:
    for note in notes:
        say(f"note: {note.text if note.where == dataset.source else f'{note.where}: {note.text}'}")


def summary_text(conclusion: ClassificationConclusion | SegmentationConclusion, folder: RunFolder) -> Any:
    """Return the end of a run as a table and the places of its files."""
    from rich.console import Group

    from gossamer.cli.evaluate import labels_table, masks_table, metrics_table
    from gossamer.report.classification_page import verdict
    from gossamer.report.labels import decision_in_words
    from gossamer.report.segmentation_page import mask_verdict
    from gossamer.training.conclusion import ClassificationConclusion

    run, report = conclusion.run, f"report: {folder.report}"
    if not isinstance(conclusion, ClassificationConclusion):
        table = masks_table(conclusion.evaluation, run.data)
        return Group(table, mask_verdict(conclusion.evaluation), report)
    table = metrics_table(conclusion.evaluation, run.data)
    labels = [labels_table(conclusion.evaluation)] if run.multi_label else []
    positive = [f"positive class: {run.classes[1]}"] if len(run.classes) == 2 and not run.multi_label else []
    decision = decision_in_words(conclusion.evaluation)
    return Group(table, *labels, *positive, decision, verdict(conclusion), report)


def _progress_drawer(folder: RunFolder, monitor: str) -> Callable[[Any], None]:
    from gossamer.report.figures import learning_curves, write_png
    from gossamer.training.callbacks import EpochDone

    def draw(event: Any) -> None:
        if isinstance(event, EpochDone):
            write_png(learning_curves(event.history, event.best_epoch, monitor), folder.progress)

    return draw


@contextmanager
def _training_display() -> Iterator[Callable[[Any], None]]:
    """Yield an observer: a bar with the time left on a terminal, a line an epoch elsewhere."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        yield from _bar()
    else:
        yield _lines()


def _bar() -> Iterator[Callable[[Any], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from gossamer.training.callbacks import EpochDone

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=120) as bars:
        task = bars.add_task("", total=None)

        def show(event: Any) -> None:
            if isinstance(event, EpochDone):
                bars.update(task, description=_epoch_text(event))
            else:
                bars.update(task, completed=event.step, total=event.steps)

        yield show


def _lines() -> Callable[[Any], None]:
    from gossamer.training.callbacks import EpochDone

    began = time.monotonic()
    first: list[int] = []

    def show(event: Any) -> None:
        if isinstance(event, EpochDone):
            first.append(len(event.history))
            done = len(event.history) - first[0] + 1
            left = (time.monotonic() - began) / done * (event.epochs - len(event.history))
            say(f"{_epoch_text(event)}, about {left:.0f} s left")

    return show


def _epoch_text(event: Any) -> str:
    from gossamer.report.figures import VALIDATION_METRICS

    row, best = event.history[-1], event.history[event.best_epoch]
    name, label = next((name, label) for name, label in VALIDATION_METRICS.items() if name in row)
    # The loss of validation is that of each pixel or image alone, without Dice and without what a network adds.
    validation = "validation cross-entropy" if name == "val_dice" else "validation loss"
    return (
        f"epoch {len(event.history)}/{event.epochs}: loss {row['train_loss']:.3f}, "
        f"{validation} {row['val_loss']:.3f}, "
        f"{label} {row[name]:.3f}, best {best[name]:.3f} at {best['epoch']:.0f}"
    )
