"""Time of each stage of ``gossamer predict``, measured on the very functions that predict."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import GossamerError
from gossamer.inference.predictor import Predictor
from gossamer.inference.stage_timer import STAGES, Stage, StageClock
from gossamer.inference.tasks import PREDICTION_TASKS
from gossamer.progress import Update
from gossamer.summary import SummaryTable


@dataclass(frozen=True)
class StageDuration:
    """Time of one stage.

    Attributes:
        seconds: Time for all images, with time that belongs to no image, in seconds.
        share: Share of the wall time of all stages, 0 to 1.
        p50_ms: Median over images, in ms.
        p95_ms: 95th percentile over images, in ms.
    """

    seconds: float
    share: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class PredictionTiming:
    """Time of a prediction by stages, which add up to the wall time.

    Attributes:
        images: Number of images or volumes that were tried.
        errors: Path and error of each that could not be used.
        wall_seconds: Time between the first file and the last result, in seconds; opening the model is not included.
        stages: Time of each stage, in order.
    """

    images: int
    errors: tuple[tuple[Path, GossamerError], ...]
    wall_seconds: float
    stages: dict[Stage, StageDuration]

    def to_json(self) -> dict[str, Any]:
        """Return the times as data."""
        return {
            "images": self.images,
            "wall_seconds": self.wall_seconds,
            "stages": {name: asdict(stage) for name, stage in self.stages.items()},
            "errors": [{"path": str(path), **error.to_json()} for path, error in self.errors],
        }

    def summary_table(self) -> SummaryTable:
        """Return a row for each stage, and one for the wall time."""
        rows = tuple(
            (name, f"{stage.seconds:.3f}", f"{stage.share:.1%}", f"{stage.p50_ms:.2f} ms", f"{stage.p95_ms:.2f} ms")
            for name, stage in self.stages.items()
        )
        total = ("total", f"{self.wall_seconds:.3f}", "", "", "")
        return SummaryTable(
            "", ("stage", "seconds", "share", "median", "p95"), (*rows, total), f"wall time of {self.images} inputs"
        )


def measure_stages(
    predictor: Predictor,
    clock: StageClock,
    paths: Sequence[Path],
    *,
    on_progress: Update = lambda done, total: None,
) -> PredictionTiming:
    """Predict ``paths`` into a temporary folder, which is removed again, and return the time of each stage.

    The first image is predicted once before, without timing: the first calls of an engine take longer.

    Args:
        predictor: Predictor to time.
        clock: Clock of the stages.
        paths: Images, or folders of images.
        on_progress: Function of the number of images done and their total.

    Raises:
        GossamerError: There is no image, or none can be used.
    """
    predictor = predictor.with_lap(clock.lap)
    task = PREDICTION_TASKS[predictor.task]

    def end_image(done: int, total: int) -> None:
        clock.end_image()
        on_progress(done, total)
        clock.skip()

    def predict_into(folder: Path, update: Update, count: int | None) -> list[tuple[Path, GossamerError]]:
        inputs = task.find_inputs(predictor, paths)[:count]
        clock.lap("read")
        clock.end()
        return task.predict_inputs(predictor, inputs, folder, update=update).errors

    with tempfile.TemporaryDirectory() as name:
        with suppress(GossamerError):  # raised again below if no other image can be used
            predict_into(Path(name) / "first", lambda done, total: None, 1)
        clock.restart()
        errors = predict_into(Path(name) / "all", end_image, None)
        clock.end()
    return _make_timing(clock, tuple(errors))


def _make_timing(clock: StageClock, errors: tuple[tuple[Path, GossamerError], ...]) -> PredictionTiming:
    totals: dict[Stage, float] = {stage: clock.total(stage) for stage in STAGES}
    wall = sum(totals.values())
    stages: dict[Stage, StageDuration] = {}
    for stage, seconds in totals.items():
        p50, p95 = np.percentile([1e3 * image[stage] for image in clock.images], [50, 95])
        stages[stage] = StageDuration(seconds, seconds / wall, float(p50), float(p95))
    return PredictionTiming(len(clock.images), errors, wall, stages)
