"""Training: from a run's config and prepared images to the best weights."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from gossamer.checkpoint import save_model
from gossamer.data.preparation.classification import PreparedImages
from gossamer.data.preparation.segmentation import PreparedCases
from gossamer.nn.models import Network
from gossamer.nn.recompute import recompute_blocks
from gossamer.training.augment import Augmenter, MaskAugmenter
from gossamer.training.batches import EpochBatches, TrainingImages, ValidationImages, ValidationShard
from gossamer.training.callbacks import Observer, Record, SaveLast, SignalGuard, StopRequested, TrainingInterrupted
from gossamer.training.checkpoint_io import SafetensorsCheckpointIO
from gossamer.training.classification import ClassificationModule, class_weights
from gossamer.training.initial_weights import start_from
from gossamer.training.module import TrainingModule
from gossamer.training.recipe import Recipe
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.segmentation import SegmentationModule
from gossamer.training.slices import TrainingSlices, ValidationCases

_VALIDATION_BATCH = 64
_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class Fitted:
    """What training came to.

    Attributes:
        history: one row an epoch.
        best_epoch: index of the row whose weights were kept.
        stopped_early: whether the validation metric stood still before the planned epochs were over.
        class_weights: of the loss of classification, one a class; none for segmentation.
    """

    history: tuple[dict[str, float], ...]
    best_epoch: int
    stopped_early: bool
    class_weights: tuple[float, ...]


def world_size() -> int:
    """Return how many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def global_rank() -> int:
    """Return which of them this one is."""
    return int(os.environ.get("RANK", "0"))


def choose_monitor(val_targets: np.ndarray) -> str:
    """Return ``val_auroc`` where some class of the validation split has positives and negatives, else ``val_loss``."""
    positives = val_targets.sum(axis=0)
    return "val_auroc" if bool(((positives > 0) & (positives < len(val_targets))).any()) else "val_loss"


@dataclass(frozen=True)
class _Job:
    """What one task gives Lightning."""

    module: TrainingModule
    train: DataLoader[Any]
    val: DataLoader[Any]
    class_weights: tuple[float, ...] = ()


def fit_network(
    run: RunConfig,
    folder: RunFolder,
    train: PreparedImages | PreparedCases,
    val: PreparedImages | PreparedCases,
    *,
    resume: bool = False,
    observers: Sequence[Observer] = (),
) -> Fitted:
    """Train the network of ``run``; the best weights and everything needed to resume are kept in ``folder``.

    Under torchrun every process calls this with the same arguments; the batches of the recipe are shared between them.

    Args:
        run: the network, the recipe and the seed.
        folder: where it is kept; it exists and holds the config.
        train: the training images.
        val: the validation images.
        resume: go on from ``last.ckpt``, where there is one.
        observers: called with every step and epoch.

    Raises:
        GossamerError: ``E-VALUE`` where a loss is not finite, ``E-NOSPACE`` or ``E-OUTPUT`` where the folder cannot be
            written.
        TrainingInterrupted: SIGINT or SIGTERM was received.
    """
    try:
        with _unchanged_globals():
            return _fit(run, folder, train, val, resume=resume, observers=observers)
    except StopRequested as stop:
        raise TrainingInterrupted(stop.signal_number, folder.path) from None


def _fit(
    run: RunConfig,
    folder: RunFolder,
    train: PreparedImages | PreparedCases,
    val: PreparedImages | PreparedCases,
    *,
    resume: bool,
    observers: Sequence[Observer],
) -> Fitted:
    recipe, processes, rank = run.recipe, world_size(), global_rank()
    torch.manual_seed(run.seed)
    resume_from = str(folder.last) if resume and folder.last.exists() else None
    network = _network(run, fresh=resume_from is None)
    if run.task == "segment":
        assert isinstance(train, PreparedCases)
        assert isinstance(val, PreparedCases)
        job = _segmentation(run, train, val, network)
    else:
        assert isinstance(train, PreparedImages)
        assert isinstance(val, PreparedImages)
        job = _classification(run, train, val, network)
    record = Record(folder, run.monitor, tuple(observers))
    mode = "min" if run.monitor == "val_loss" else "max"
    stopping = EarlyStopping(
        run.monitor, patience=recipe.patience, mode=mode, check_on_train_epoch_end=True, check_finite=False
    )
    if rank == 0 and resume_from is None:
        save_model(job.module.network, folder.path)
    with SignalGuard() as guard:
        trainer = _trainer(recipe, processes, folder, [guard, record, stopping, SaveLast(record)])
        trainer.fit(job.module, job.train, job.val, ckpt_path=resume_from)
    return Fitted(tuple(record.history), record.best_epoch, len(record.history) < recipe.epochs, job.class_weights)


def _network(run: RunConfig, *, fresh: bool) -> Network:
    """Return the network to train; weights that the run starts from are loaded unless it goes on."""
    network = run.model.build()
    if run.init is not None and fresh:
        start_from(run.init, network)
    if run.recipe.recompute:
        recompute_blocks(network)
    return network


def _classification(run: RunConfig, train: PreparedImages, val: PreparedImages, network: Network) -> _Job:
    recipe = run.recipe
    batches = EpochBatches(len(train.samples), recipe.batch_size, run.seed, global_rank(), world_size())
    counts = [int(count) for count in train.targets.sum(axis=0)]
    weights = class_weights(counts, len(train.samples), recipe.class_weights, multi_label=run.multi_label)
    module = ClassificationModule(
        network,
        recipe,
        weights,
        multi_label=run.multi_label,
        seed=run.seed,
        sample_ids=[sample.id for sample in train.samples],
        steps=recipe.epochs * len(batches),
    )
    images = TrainingImages(train, Augmenter(recipe.augmentation, run.model.image_size), run.seed)
    shard = ValidationShard(len(val.samples), global_rank(), world_size())
    return _Job(
        module,
        DataLoader(images, batch_sampler=batches),
        DataLoader(ValidationImages(val), batch_size=_VALIDATION_BATCH, sampler=shard),
        tuple(weights),
    )


def _segmentation(run: RunConfig, train: PreparedCases, val: PreparedCases, network: Network) -> _Job:
    recipe, inference = run.recipe, run.inference
    assert inference is not None
    options = {"foreground": len(run.classes), "overlapping": run.multi_label, "seed": run.seed}
    slices = TrainingSlices(train, MaskAugmenter(recipe.augmentation), inference, **options)
    batches = EpochBatches(len(slices), recipe.batch_size, run.seed, global_rank(), world_size(), draws=recipe.draws)
    steps = recipe.epochs * len(batches)
    module = SegmentationModule(network, recipe, inference, sample_ids=slices.names(), steps=steps, **options)
    shard = ValidationShard(len(val.cases), global_rank(), world_size())
    return _Job(
        module,
        DataLoader(slices, batch_sampler=batches),
        DataLoader(ValidationCases(val, inference.stack), batch_size=None, sampler=shard, collate_fn=_as_it_is),
    )


def _as_it_is(case: Any) -> Any:
    return case


@contextmanager
def _unchanged_globals() -> Iterator[None]:
    """Silence Lightning, and restore what training changes of the process: random state, warnings, logging levels."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _trainer(recipe: Recipe, processes: int, folder: RunFolder, callbacks: list[Any]) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu" if processes > 1 or not torch.cuda.is_available() else "auto",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=recipe.epochs,
        precision=_PRECISIONS[recipe.precision],  # type: ignore[arg-type]
        gradient_clip_val=recipe.clip_norm,
        callbacks=callbacks,
        plugins=[SafetensorsCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder.path,
    )
