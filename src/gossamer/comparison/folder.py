"""What a comparison leaves on the disk: its plan, its cells, what was measured, and the page."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gossamer import config
from gossamer.files import read_json, write_json
from gossamer.profiling.figure import Figure

TWIN = "softmax"
"""The mechanism that the others of the same network are compared with."""
Precision = Literal["torch", "float32", "int8"]
"""PyTorch in float32, and the bundle in its two precisions."""
PRECISIONS: tuple[Precision, ...] = ("torch", "float32", "int8")
Stage = Literal["train", "export", "quantize"]
STAGES: tuple[Stage, ...] = ("train", "export", "quantize")
"""What is done with a cell, in this order."""
NEEDED: dict[Precision, Stage] = dict(zip(PRECISIONS, STAGES, strict=True))
"""The stage that makes each precision."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A network with a mechanism: a row of the table.

    Attributes:
        model: a preset.
        attention: a mechanism, by name or as a JSON object; None for a network that has none.
    """

    model: str
    attention: str | None

    @property
    def name(self) -> str:
        """In words, as the table has it."""
        return self.model if self.attention is None else f"{self.model} with {self.attention}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: a row of the table with one seed."""

    kind: Kind
    seed: int


@dataclass(frozen=True, kw_only=True)
class State:
    """How far a cell has come.

    Attributes:
        stage: what was done last, or what failed.
        failed: why it stopped, in one line; None where it did not.
        seconds: of the work so far.
    """

    stage: Stage
    failed: str | None
    seconds: float


@dataclass(frozen=True)
class CompareFolder:
    """The folder of a comparison. Every file is written whole or not at all, so that it can be stopped anywhere.

    Below ``path``: ``plan.json``; of each cell, ``cells/<key>/`` with ``run/``, ``float32/``, ``int8/`` (bundles),
    ``state-<stage>.json`` and ``<stage>.log``; of each kind, ``measured/<key>.json``; then ``results.csv``,
    ``summary.json`` and ``report.html``.
    """

    path: Path

    @property
    def plan(self) -> Path:
        """What was asked for, and what follows from it."""
        return self.path / "plan.json"

    @property
    def table(self) -> Path:
        """One line a cell and precision."""
        return self.path / "results.csv"

    @property
    def summary(self) -> Path:
        """Everything that the page says, as data."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def cell(self, cell: Cell) -> Path:
        """Return the folder of a cell."""
        return self.path / "cells" / f"{key_of(cell.kind)}-{cell.seed}"

    def run(self, cell: Cell) -> Path:
        """Return the run of a cell, as ``gossamer train`` writes it."""
        return self.cell(cell) / "run"

    def bundle(self, cell: Cell, precision: Literal["float32", "int8"]) -> Path:
        """Return a bundle of a cell."""
        return self.cell(cell) / precision

    def log(self, cell: Cell, stage: Stage) -> Path:
        """Return what a stage of a cell said."""
        return self.cell(cell) / f"{stage}.log"

    def read_state(self, cell: Cell, stage: Stage) -> State | None:
        """Return how a stage of a cell ended; None where it did not end yet, or what it made is gone."""
        file = self._state(cell, stage)
        state = config.from_json(State, read_json(file), str(file)) if file.exists() else None
        return None if state is not None and state.failed is None and self._lost(cell, stage) else state

    def write_state(self, cell: Cell, state: State) -> None:
        """Keep how a stage of a cell ended."""
        write_json(self._state(cell, state.stage), config.to_json(state))

    def forget_state(self, cell: Cell, stage: Stage) -> None:
        """Remove how a stage of a cell ended, before it is done again."""
        self._state(cell, stage).unlink(missing_ok=True)

    def _state(self, cell: Cell, stage: Stage) -> Path:
        return self.cell(cell) / f"state-{stage}.json"

    def _lost(self, cell: Cell, stage: Stage) -> bool:
        """Return whether a file that a stage leaves last is gone; without its run a bundle cannot be told to be its."""
        run = self.run(cell) / "summary.json"
        left = {
            "train": (run,),
            "export": (run, self.bundle(cell, "float32") / "manifest.json"),
            "quantize": (run, self.bundle(cell, "int8") / "manifest.json"),
        }
        return not all(file.exists() for file in left[stage])

    def measured(self, kind: Kind) -> Path:
        """Return the file of what a kind costs on this machine."""
        return self.path / "measured" / f"{key_of(kind)}.json"


@dataclass(frozen=True, kw_only=True)
class GrowthPoint:
    """What a kind costs at one image size; a figure that could not be had is ``unavailable``, with the reason."""

    image_size: tuple[int, int]
    macs: Figure
    latency: Figure


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a kind costs on this machine, measured beside all other kinds.

    Attributes:
        network: ``parameters``, ``macs``, ``exponentials``, ``train_step`` (ms) and ``train_memory`` (bytes).
        precisions: of each of ``PRECISIONS``: ``file`` (bytes), ``latency_p50``, ``latency_p95`` (ms), ``peak_memory``
            (bytes of a whole fresh process) and ``energy`` (J of a call). Everything is a figure; what could not be had
            is ``unavailable`` with the reason.
        growth: cost over image sizes.
    """

    network: dict[str, Figure]
    precisions: dict[Precision, dict[str, Figure]]
    growth: tuple[GrowthPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as data."""
        return config.to_json(self)


def key_of(kind: Kind) -> str:
    """Return a name that a file can have."""
    words = kind.model if kind.attention is None else f"{kind.model}-{kind.attention}"
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in words)
    return kept if len(kept) <= 80 else f"{kept[:60]}-{zlib.crc32(words.encode()):08x}"
