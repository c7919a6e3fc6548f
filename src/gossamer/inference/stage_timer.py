"""The time of a prediction by stage: every moment belongs to one of five stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

Stage = Literal["read", "preprocess", "network", "postprocess", "write"]
STAGES: tuple[Stage, ...] = ("read", "preprocess", "network", "postprocess", "write")
Lap = Callable[[Stage], None]
"""Function called when a stage ends. The time since the last call belongs to this stage, so that none is lost."""


def no_timing(stage: Stage) -> None:
    """Ignore the end of a stage."""


class StageClock:
    """A clock that adds up the time of each stage, for each image and in total.

    Attributes:
        images: Seconds of each stage, one dictionary for each image.
        rest: Seconds of each stage outside of images, such as writing a table of all images.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Reset all times."""
        self.images: list[dict[Stage, float]] = []
        self.rest: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._current: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def skip(self) -> None:
        """Discard the time since the last lap, which is not part of the measurement."""
        self._last = time.perf_counter()

    def lap(self, stage: Stage) -> None:
        """End a stage."""
        now = time.perf_counter()
        self._current[stage] += now - self._last
        self._last = now

    def end_image(self) -> None:
        """Count the time since the last image as that of one image."""
        self.images.append(self._current)
        self._current = dict.fromkeys(STAGES, 0.0)

    def end(self) -> None:
        """Count the time since the last image as that of no image."""
        for stage, seconds in self._current.items():
            self.rest[stage] += seconds
        self._current = dict.fromkeys(STAGES, 0.0)

    def total(self, stage: Stage) -> float:
        """Return the seconds of a stage, of all images and outside of them."""
        return sum(image[stage] for image in self.images) + self.rest[stage]


def time_calls(network: Callable[[np.ndarray], np.ndarray], lap: Lap) -> Callable[[np.ndarray], np.ndarray]:
    """Return a network whose calls are a stage; the time before a call, such as cutting windows, is preprocessing."""

    def call(images: np.ndarray) -> np.ndarray:
        lap("preprocess")
        found = network(images)
        lap("network")
        return found

    return call
