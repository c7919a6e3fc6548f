"""``gossamer train``: from a folder of labelled images to a trained, evaluated, reported model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from gossamer.cli.answer import Answer, Common, parse_size, progress, require_torch, say, set_threads
from gossamer.errors import ErrorCode, GossamerError, Note

if TYPE_CHECKING:
    from gossamer.data import Dataset
    from gossamer.data.datasets.prepare import PreparedSplit
    from gossamer.report.conclusion import Conclusion
    from gossamer.train.plan import Wishes
    from gossamer.train.run import RunConfig, RunFolder


@Parameter(name="*")
@dataclass(frozen=True)
class TrainOptions:
    """What may be chosen; whatever is left out, the recipe chooses from the data.

    Attributes:
        model: a preset of gossamer models.
        attention: a mechanism of gossamer models, or JSON such as '{"name": "soft", "inverse": "cholesky"}'.
        image_size: rows x columns of the network's input, such as 224x224.
        patch_size: side of a patch in pixels.
        stem: how pixels become tokens: by the published patch embedding, or by four convolutions.
        epochs: passes over the training split.
        batch_size: images of a step, over all processes.
        learning_rate: its peak.
        patience: epochs without improvement after which training stops.
        precision: of products in training.
        flips: mirror images that may be used in training; none by default, since sides can matter.
        class_weights: balanced weighs classes by their inverse frequency.
        seed: of splits, weights, order and augmentation.
    """

    model: str = "vit_tiny"
    attention: str = "sequence_norm"
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
    seed: int = 0

    def wishes(self) -> Wishes:
        """Return the options as training takes them."""
        from gossamer.train.plan import Wishes

        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "image_size"}
        return Wishes(**given, image_size=parse_size(self.image_size))


def train(
    data: Path | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    threads: int | None = None,
    options: TrainOptions = TrainOptions(),
    common: Common = Common(),
) -> Answer:
    """Train a network on labelled images, evaluate it and write a report.

    DATA is a MedMNIST npz, a folder of class folders, or a CSV manifest. Everything goes into one run folder.

    Example: gossamer train chest/ --model vit_tiny --attention sequence_norm --out runs/chest

    Args:
        data: labelled images.
        out: the run folder; runs/<data>-<model>-<attention>-<seed> if left out. It must not exist.
        resume: go on with this run where it was stopped, with its own data and options.
        threads: of the processor; all that this process may use if left out, or as many as the resumed run had.
        options: choices.
        common: options of every verb.
    """
    require_torch("train")
    if (data is None) == (resume is None):
        problem = "wants either DATA or --resume RUN"
        raise GossamerError(
            ErrorCode.CONFIG, "gossamer train", problem, "name the data to train on, or the run to resume"
        )
    if resume is not None and options != TrainOptions():
        problem = "a resumed run keeps its own options"
        raise GossamerError(ErrorCode.CONFIG, "--resume", problem, "leave the other options out, or start a new run")
    conclusion, folder = (
        resume_run(resume, threads) if resume is not None else new_run(data, out, options.wishes(), threads)  # type: ignore[arg-type]
    )
    if conclusion is None:  # another process than the first
        return Answer({})
    return Answer({"run": str(folder.path), **conclusion.to_json()}, summary_text(conclusion, folder))


def new_run(data: Path, out: Path | None, wishes: Wishes, threads: int | None) -> tuple[Conclusion | None, RunFolder]:
    """Plan and train a new run. The conclusion is None on all processes but the first."""
    from gossamer.data import open_dataset
    from gossamer.measure.machine import describe_machine
    from gossamer.nn.attention import attention_config
    from gossamer.train.fit import global_rank, world_size
    from gossamer.train.plan import plan_run
    from gossamer.train.run import RunFolder

    used = set_threads(threads, world_size())
    dataset = open_dataset(data, seed=wishes.seed)
    name = f"{data.stem}-{wishes.model}-{attention_config(wishes.attention).name}-{wishes.seed}"
    folder = RunFolder(out or Path("runs") / name)
    if global_rank() == 0:
        folder.require_absent()
    run, notes = plan_run(dataset, wishes)
    splits = _read_images(run, dataset)
    if global_rank() == 0:
        folder.create()
        folder.write_config(run, {**describe_machine(), "threads": used, "processes": world_size()})
    return _train(run, dataset, splits, folder, notes, resume=False), folder


def resume_run(path: Path, threads: int | None) -> tuple[Conclusion | None, RunFolder]:
    """Go on with the run at ``path``. The conclusion is None on all processes but the first."""
    from gossamer.data import open_dataset
    from gossamer.train.fit import world_size
    from gossamer.train.run import RunFolder

    folder = RunFolder(path)
    run = folder.read_config()
    set_threads(threads or folder.read_threads(), world_size())
    dataset = open_dataset(run.data, seed=run.seed)
    if dataset.fingerprint() != run.data_fingerprint:
        problem = "samples, labels or splits are not those that the run was started with"
        raise GossamerError(ErrorCode.INTEGRITY, run.data, problem, "restore the data, or start a new run")
    return _train(run, dataset, _read_images(run, dataset), folder, (), resume=True), folder


def _read_images(run: RunConfig, dataset: Dataset) -> dict[str, PreparedSplit]:
    """Return every split that the data have, prepared: an image that cannot be used is found before training."""
    from gossamer.data.datasets import SPLITS
    from gossamer.data.datasets.prepare import prepare

    present = [split for split in SPLITS if any(sample.split == split for sample in dataset.samples)]
    splits = {}
    for split in present:
        with progress(f"reading the {split} split") as tick:
            splits[split] = prepare(dataset, dataset.split(split), run.preprocessing, run.classes, tick)
    return splits


def _train(
    run: RunConfig,
    dataset: Dataset,
    splits: dict[str, PreparedSplit],
    folder: RunFolder,
    notes: Sequence[Note],
    *,
    resume: bool,
) -> Conclusion | None:
    from gossamer.report.conclude import conclude
    from gossamer.train.callbacks import Interrupted
    from gossamer.train.fit import fit, global_rank

    first = global_rank() == 0
    if first:
        _announce(run, dataset, notes)
    try:
        with _training_display() as show:
            observers = (show, _progress_drawer(folder, run.monitor)) if first else ()
            fitted = fit(run, folder, splits["train"], splits["val"], resume=resume, observers=observers)
    except Interrupted as stop:
        if first:
            say(f"gossamer: stopped by {stop}; go on with: gossamer train --resume {folder.path}")
        sys.exit(128 + stop.number)
    if not first:
        return None
    say("evaluating and measuring")
    return conclude(folder, run, dataset, fitted, splits, notes)


def _announce(run: RunConfig, dataset: Dataset, notes: Sequence[Note]) -> None:
    model: Any = run.model
    grid = "x".join(str(count) for count in model.grid)
    sizes = ", ".join(f"{split} {len(dataset.split(split))}" for split in ("train", "val"))
    say(f"{dataset.source}: {dataset.layout} layout, {len(dataset.classes)} classes, {sizes}")
    size = "x".join(str(side) for side in model.image_size)
    say(f"{run.preset} with {model.attention.name}: {size} px, {grid} tokens, {model.stem} stem, seed {run.seed}")
    for note in (*dataset.notes, *notes):
        say(f"note: {note.text if note.where == dataset.source else f'{note.where}: {note.text}'}")


def summary_text(conclusion: Conclusion, folder: RunFolder) -> Any:
    """Return the end of a run as a table and the places of its files."""
    from rich.console import Group

    from gossamer.cli.evaluate import metrics_table
    from gossamer.report.page import verdict

    table = metrics_table(conclusion.evaluation, conclusion.run.data)
    run = conclusion.run
    positive = [f"positive class: {run.classes[1]}"] if len(run.classes) == 2 and not run.multi_label else []
    return Group(table, *positive, verdict(conclusion), f"report: {folder.report}")


def _progress_drawer(folder: RunFolder, monitor: str) -> Callable[[Any], None]:
    from gossamer.report.figures import learning_curves, write_png
    from gossamer.train.callbacks import EpochDone

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

    from gossamer.train.callbacks import EpochDone

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
    from gossamer.train.callbacks import EpochDone

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
    row, best = event.history[-1], event.history[event.best_epoch]
    return (
        f"epoch {len(event.history)}/{event.epochs}: loss {row['train_loss']:.3f}, "
        f"validation loss {row['val_loss']:.3f}, "
        f"AUROC {row['val_auroc']:.3f}, best {best['val_auroc']:.3f} at {best['epoch']:.0f}"
    )
