"""Callbacks between training steps: events for observers, checkpoints and signals."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from gossamer.checkpoint import save_weights
from gossamer.files import write_json
from gossamer.training.module import TrainingModule
from gossamer.training.run_folder import RunFolder

_SAVING_SHARE = 0.05


@dataclass(frozen=True)
class StepDone:
    """An optimizer step is done.

    Attributes:
        step: Number of steps so far.
        steps: Planned number of steps.
    """

    step: int
    steps: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch is done.

    Attributes:
        history: Metrics of each epoch so far.
        epochs: Planned number of epochs.
        best_epoch: Index of the best epoch so far.
    """

    history: tuple[dict[str, float], ...]
    epochs: int
    best_epoch: int


Event = StepDone | EpochDone
Observer = Callable[[Event], None]


class StopRequested(Exception):  # noqa: N818 -- a signal is not an error
    """A signal was received; the last checkpoint is valid. Never leaves ``fit_network``."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(signal.Signals(signal_number).name)


class TrainingInterrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM stopped a training between two steps; the run can be resumed.

    Args:
        signal_number: Number of the signal.
        path: Run folder.
    """

    def __init__(self, signal_number: int, path: Path) -> None:
        self.signal_number = signal_number
        self.path = path
        super().__init__(signal_number, path)

    def __str__(self) -> str:
        name = signal.Signals(self.signal_number).name
        return f"stopped by {name}; resume with: gossamer train --resume {self.path}"


class SignalGuard(Callback):
    """Stops between two steps when a signal asks the process to, while it is used as a context.

    Signals reach the main thread alone; in any other thread nothing is changed.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if kind is None or isinstance(error, SystemExit):  # Lightning answers SIGTERM by exiting with status 0
            self.check()

    def check(self) -> None:
        """Raise ``StopRequested`` if a signal was received."""
        if self._received is not None:
            raise StopRequested(self._received)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop here if a signal was received."""
        self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number


class HistoryRecorder(Callback):
    """Keeps the history, the best weights and the state to resume from, and informs observers.

    Its own state is part of the checkpoint, so that a resumed run continues the same history with the same best epoch.
    The state to resume from is written at the end of an epoch, unless writing would take more than 5 % of the time.

    Args:
        folder: Run folder.
        monitor: Validation metric that chooses the best epoch; the lower loss decides between equal values.
        observers: Functions that are called with every event, on the first process.
    """

    def __init__(self, folder: RunFolder, monitor: str, observers: tuple[Observer, ...]) -> None:
        self.folder = folder
        self.monitor = monitor
        self.observers = observers
        self.history: list[dict[str, float]] = []
        self.best_epoch = -1
        self._finals: list[bool] = []
        self._epoch_began = 0.0
        self._saved_at = 0.0
        self._saving_takes = 0.0

    @property
    def state_key(self) -> str:
        """Name of the state in the checkpoint."""
        return "Record"

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"history": self.history, "best_epoch": self.best_epoch, "finals": self._finals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.history = list(state_dict["history"])
        self.best_epoch = state_dict["best_epoch"]
        self._finals = list(state_dict["finals"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the time at which the epoch begins."""
        self._epoch_began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Inform observers of the step."""
        assert isinstance(pl_module, TrainingModule)
        self._inform(trainer, StepDone(trainer.global_step, pl_module.steps))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch to the history and write the files that it changed."""
        assert isinstance(pl_module, TrainingModule)
        loss = pl_module.train_loss()
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": loss,
            **{
                name: float(value)
                for name, value in sorted(trainer.callback_metrics.items())
                if name.startswith("val_")
            },
            "seconds": time.monotonic() - self._epoch_began,
        }
        self._finals.append(pl_module.is_final)
        improved = self.best_epoch < 0 or self._rank(row, -1) > self._rank(
            self.history[self.best_epoch], self.best_epoch
        )
        self.history.append(row)
        if improved:
            self.best_epoch = len(self.history) - 1
        if trainer.is_global_zero:
            if improved:
                save_weights(pl_module.network.state_dict(), self.folder.path)
            self.folder.write_history(self.history)
            assert trainer.max_epochs is not None
            self._inform(trainer, EpochDone(tuple(self.history), trainer.max_epochs, self.best_epoch))

    def save(self, trainer: pl.Trainer) -> None:
        """Write the state to resume from if it is due; called last, when all other state of the epoch is final."""
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        due = time.monotonic() - self._saved_at >= self._saving_takes / _SAVING_SHARE
        if trainer.world_size > 1:
            due = bool(trainer.strategy.broadcast(due))
        if due or last:
            began = time.monotonic()
            trainer.save_checkpoint(self.folder.last)
            self._saved_at = time.monotonic()
            self._saving_takes = self._saved_at - began

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the names of the images of a batch whose loss or gradient is not finite."""
        if isinstance(pl_module, TrainingModule) and pl_module.bad_batch:
            write_json(
                self.folder.path / "bad_batch.json", {"step": trainer.global_step, "images": pl_module.bad_batch}
            )

    def _rank(self, row: dict[str, float], number: int) -> tuple[bool, float, float]:
        """Return a key to order epochs by: last stage of the network first, then the metric, then the loss."""
        monitored = -row[self.monitor] if self.monitor == "val_loss" else row[self.monitor]
        return (self._finals[number], round(monitored, 6), -row["val_loss"])

    def _inform(self, trainer: pl.Trainer, event: Event) -> None:
        if trainer.is_global_zero:
            for observer in self.observers:
                observer(event)


class CheckpointWriter(Callback):
    """Calls ``HistoryRecorder.save`` after every other callback has seen the end of the epoch."""

    def __init__(self, recorder: HistoryRecorder) -> None:
        self.recorder = recorder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the state to resume from."""
        self.recorder.save(trainer)
