"""Where the time of a prediction goes: every moment belongs to one of five stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

Stage = Literal["read", "preprocess", "network", "postprocess", "write"]
STAGES: tuple[Stage, ...] = ("read", "preprocess", "network", "postprocess", "write")
Lap = Callable[[Stage], None]
"""Told that a stage ends now. The time since the last lap is this stage's, so that nothing is left over."""


def no_timing(stage: Stage) -> None:
    """Take no time."""


class StageClock:
    """Adds up the time of each stage, of each image and of all together.

    Attributes:
        images: seconds of each stage, one dictionary an image.
        rest: seconds that belong to no image, such as those of a table of all.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.images: list[dict[Stage, float]] = []
        self.rest: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._current: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def skip(self) -> None:
        """Forget the time since the last lap, which is no part of what is measured."""
        self._last = time.perf_counter()

    def lap(self, stage: Stage) -> None:
        """End a stage."""
        now = time.perf_counter()
        self._current[stage] += now - self._last
        self._last = now

    def end_image(self) -> None:
        """What was timed since the last image was the next one's."""
        self.images.append(self._current)
        self._current = dict.fromkeys(STAGES, 0.0)

    def end(self) -> None:
        """What was timed since the last image belongs to none."""
        for stage, seconds in self._current.items():
            self.rest[stage] += seconds
        self._current = dict.fromkeys(STAGES, 0.0)

    def total(self, stage: Stage) -> float:
        """Return the seconds of a stage."""
        return sum(image[stage] for image in self.images) + self.rest[stage]


def time_calls(network: Callable[[np.ndarray], np.ndarray], lap: Lap) -> Callable[[np.ndarray], np.ndarray]:
    """Return a network whose calls are a stage; what came before a call, cutting windows too, is preprocessing."""

    def call(images: np.ndarray) -> np.ndarray:
        lap("preprocess")
        found = network(images)
        lap("network")
        return found

    return call
