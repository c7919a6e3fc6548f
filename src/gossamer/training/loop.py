"""The training loop: from a run's config and prepared samples to the best weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping

from gossamer.checkpoint import save_model
from gossamer.nn.models import Network
from gossamer.nn.recompute import recompute_blocks
from gossamer.training.callbacks import (
    CheckpointWriter,
    HistoryRecorder,
    Observer,
    SignalGuard,
    StopRequested,
    TrainingInterrupted,
)
from gossamer.training.checkpoint_io import SafetensorsCheckpointIO
from gossamer.training.initial_weights import InitialWeights, reload_initial
from gossamer.training.job import FitResult, count_processes, process_rank
from gossamer.training.recipe import Recipe
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.tasks import training_task

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning")


def fit_network(
    run: RunConfig,
    folder: RunFolder,
    train: Any,
    val: Any,
    *,
    initial: InitialWeights | None = None,
    resume: bool = False,
    observers: Sequence[Observer] = (),
) -> FitResult:
    """Train the network of ``run``; the best weights and the state to resume from are kept in ``folder``.

    Under torchrun every process calls this with the same arguments; the batches of the recipe are shared between them.
    Random state, warnings, logging and signal handlers of the process are the same afterwards.

    Args:
        run: Config of the run.
        folder: Run folder, which exists and holds the config.
        train: Prepared training samples.
        val: Prepared validation samples.
        initial: Weights that the run was planned with (default: read from the folder that the run names, if any).
        resume: Whether to continue from ``last.ckpt``, if there is one.
        observers: Functions that are called with every step and epoch.

    Raises:
        GossamerError: ``E-VALUE`` if a loss is not finite, ``E-NOSPACE`` or ``E-OUTPUT`` if the folder cannot be
            written, ``E-INTEGRITY`` if the initial weights have changed.
        TrainingInterrupted: SIGINT or SIGTERM was received.
    """
    try:
        with _unchanged_process():
            return _run_trainer(run, folder, train, val, initial, resume=resume, observers=observers)
    except StopRequested as stop:
        raise TrainingInterrupted(stop.signal_number, folder.path) from None


def _run_trainer(
    run: RunConfig,
    folder: RunFolder,
    train: Any,
    val: Any,
    initial: InitialWeights | None,
    *,
    resume: bool,
    observers: Sequence[Observer],
) -> FitResult:
    recipe = run.recipe
    torch.manual_seed(run.seed)
    resume_from = str(folder.last) if resume and folder.last.exists() else None
    network = _build_network(run, initial, fresh=resume_from is None)
    job = training_task(run.task).build_job(run, network, train, val)
    recorder = HistoryRecorder(folder, run.monitor, tuple(observers))
    mode = "min" if run.monitor == "val_loss" else "max"
    stopping = EarlyStopping(
        run.monitor, patience=recipe.patience, mode=mode, check_on_train_epoch_end=True, check_finite=False
    )
    if process_rank() == 0 and resume_from is None:
        save_model(job.module.network, folder.path)
    with SignalGuard() as guard:
        trainer = _build_trainer(recipe, folder, [guard, recorder, stopping, CheckpointWriter(recorder)])
        trainer.fit(job.module, job.train, job.val, ckpt_path=resume_from)
    history = tuple(recorder.history)
    return FitResult(history, recorder.best_epoch, len(history) < recipe.epochs, job.class_weights)


def _build_network(run: RunConfig, initial: InitialWeights | None, *, fresh: bool) -> Network:
    """Return the network to train; initial weights are copied into it unless training resumes."""
    network = run.model.build()
    if run.init is not None and fresh:
        (initial or reload_initial(run.init)).transfer_to(network)
    if run.recipe.recompute:
        recompute_blocks(network)
    return network


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """Silence Lightning, and restore random state, warnings and logging levels of the process afterwards."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
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


def _build_trainer(recipe: Recipe, folder: RunFolder, callbacks: list[Any]) -> pl.Trainer:
    processes = count_processes()
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
