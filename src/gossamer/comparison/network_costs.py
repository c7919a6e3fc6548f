"""Costs of a network that its comparison reports: a training step, and growth with the size of the image."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable

from gossamer.comparison.folder import CostAtSize
from gossamer.errors import GossamerError
from gossamer.nn.models import NetworkConfig
from gossamer.profiling.figure import Figure
from gossamer.profiling.scaling import measure_growth
from gossamer.profiling.training_step import training_figures

FACTORS = (1, 2, 4)
"""Factors of the image's sides."""
_TRAINING = {"train_step": "ms", "train_memory": "bytes"}
_GROWTH_S = 4.0
_CALL_S = 5.0


def measure_training_costs(model: NetworkConfig, *, batch: int, threads: int) -> dict[str, Figure]:
    """Return ``train_step`` (ms) and ``train_memory`` (bytes) of a step, measured in a fresh process."""
    try:
        found = training_figures(model, batch=batch, threads=threads, seconds=2.0)
    except (GossamerError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return {name: Figure(None, unit, "unavailable", shorten_error(error)) for name, unit in _TRAINING.items()}
    return {name: found[name] for name in _TRAINING}


def measure_cost_growth(model: NetworkConfig) -> tuple[CostAtSize, ...]:
    """Return the cost at 1, 2 and 4 times the sides of the network's image, for the sizes that it accepts."""
    rows, columns = model.image_size
    sizes = [
        (factor * rows, factor * columns)
        for factor in FACTORS
        if _accepts_size(model, (factor * rows, factor * columns))
    ]
    if len(sizes) < 2:
        return ()
    try:
        found = measure_growth(model, sizes, seconds=_GROWTH_S, max_call_seconds=_CALL_S)
    except (GossamerError, RuntimeError, MemoryError) as error:
        reason = shorten_error(error)
        missing = Figure(None, "MACs", "unavailable", reason), Figure(None, "ms", "unavailable", reason)
        return tuple(CostAtSize(image_size=size, macs=missing[0], latency=missing[1]) for size in sizes)
    return tuple(CostAtSize(image_size=cost.image_size, macs=cost.macs, latency=cost.latency) for cost in found.sizes)


def measure_or_explain(measure: Callable[[], Figure], unit: str) -> Figure:
    """Return a figure, or an unavailable one with the reason: a failure must not lose the other figures.

    Args:
        measure: Function that measures the figure.
        unit: Unit of the figure.
    """
    try:
        return measure()
    except (GossamerError, OSError, RuntimeError, MemoryError, subprocess.SubprocessError) as error:
        return Figure(None, unit, "unavailable", shorten_error(error))


def shorten_error(error: BaseException) -> str:
    """Return the message of an error in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _accepts_size(model: NetworkConfig, image_size: tuple[int, int]) -> bool:
    if model.input_requirements.fixed_size is not None and image_size != model.image_size:
        return False
    try:
        dataclasses.replace(model, image_size=image_size)
    except GossamerError:
        return False
    return True
