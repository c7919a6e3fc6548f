"""Where the time of ``gossamer predict`` goes: the stage table, of the very functions that predict."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import GossamerError
from gossamer.inference.predictor import Predictor
from gossamer.inference.stage_timer import STAGES, Stage, StageClock
from gossamer.inference.tasks import PREDICTION_TASKS

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class StageDuration:
    """The time of a stage.

    Attributes:
        seconds: of all images, with what belongs to none of them.
        share: of the wall time of all stages, 0 to 1.
        p50_ms: median of the images.
        p95_ms: 95th percentile of the images.
    """

    seconds: float
    share: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class PredictionTiming:
    """The time of a prediction by its stages, which add up to its wall time.

    Attributes:
        images: pictures or volumes that were tried.
        errors: of those that could not be used.
        wall_seconds: from the first file to the last mask; opening the model comes on top.
        stages: by name, in order.
    """

    images: int
    errors: tuple[tuple[Path, GossamerError], ...]
    wall_seconds: float
    stages: dict[Stage, StageDuration]

    def to_json(self) -> dict[str, Any]:
        """Return the table as data."""
        return {
            "images": self.images,
            "wall_seconds": self.wall_seconds,
            "stages": {name: asdict(stage) for name, stage in self.stages.items()},
            "errors": [{"path": str(path), **error.to_json()} for path, error in self.errors],
        }


def measure_stages(
    predictor: Predictor,
    clock: StageClock,
    paths: Sequence[Path],
    *,
    on_progress: Tick = lambda done, total: None,
) -> PredictionTiming:
    """Predict ``paths`` into a temporary folder, which is removed again, and return where the time went.

    The first image is predicted once before, untimed: the first calls of an engine take longer.

    Args:
        predictor: Predictor to time.
        clock: Clock of the stages.
        paths: Images, or folders of images.
        on_progress: Function called with the number of images done and their total.

    Raises:
        GossamerError: there is no image, or none can be used.
    """
    predictor = predictor.with_lap(clock.lap)
    task = PREDICTION_TASKS[predictor.task]

    def end_of_image(done: int, total: int) -> None:
        clock.end_image()
        on_progress(done, total)
        clock.skip()

    def predict(folder: Path, tick: Tick, count: int | None) -> list[tuple[Path, GossamerError]]:
        inputs = task.find_inputs(predictor, paths)[:count]
        clock.lap("read")
        clock.end()
        return task.predict_inputs(predictor, inputs, folder, update=tick).errors

    with tempfile.TemporaryDirectory() as name:
        with suppress(GossamerError):  # which comes again, where no other image can be used
            predict(Path(name) / "first", lambda done, total: None, 1)
        clock.restart()
        errors = predict(Path(name) / "all", end_of_image, None)
        clock.end()
    return _table(clock, tuple(errors))


def _table(clock: StageClock, errors: tuple[tuple[Path, GossamerError], ...]) -> PredictionTiming:
    totals: dict[Stage, float] = {stage: clock.total(stage) for stage in STAGES}
    wall = sum(totals.values())
    stages: dict[Stage, StageDuration] = {}
    for stage, seconds in totals.items():
        p50, p95 = np.percentile([1e3 * image[stage] for image in clock.images], [50, 95])
        stages[stage] = StageDuration(seconds, seconds / wall, float(p50), float(p95))
    return PredictionTiming(len(clock.images), errors, wall, stages)
