"""Whether a run fits into this machine's memory, before it starts."""

from __future__ import annotations

import dataclasses
import math

import torch

from gossamer.errors import ErrorCode, GossamerError
from gossamer.measure.machine import available_memory_bytes
from gossamer.measure.training_memory import forecast_training_memory
from gossamer.train.run import RunConfig

USABLE = 0.9
"""Share of the free memory that a run may take."""
GIB = 2**30


def plan_memory(
    run: RunConfig, images: int, *, recompute: bool | None = None, processes: int = 1, available: int | None = None
) -> tuple[RunConfig, str | None]:
    """Return the run, with blocks that are recomputed where that is needed to fit, and one line on its memory.

    There is no line where it cannot be told: on a GPU, on a system that does not say how much memory is free, and for
    a network whose work depends on what it sees.

    Args:
        run: what will be trained.
        images: how many prepared images are kept in memory.
        recompute: what the user wants; where it is needed if left out.
        processes: that share the memory, each with its part of a batch.
        available: bytes that are free; those of this machine if left out.

    Raises:
        GossamerError: ``E-LIMIT``, where it does not fit, with what would.
    """
    available = available or available_memory_bytes()
    if available is None or (torch.cuda.is_available() and processes == 1):
        return run, None
    kept = processes * 4 * images * run.model.in_channels * math.prod(run.model.image_size)
    choices = [False, True] if recompute is None else [recompute]
    needed = 0
    for choice in choices:
        forecast = _needed(run, run.recipe.batch_size, processes, recompute=choice)
        if forecast is None:
            return run, None
        needed = kept + forecast
        if needed <= USABLE * available:
            changed = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, recompute=choice))
            how = ", blocks are evaluated again in the backward pass to save it" if choice else ""
            return changed, f"memory: about {_gib(needed)} for training{how}; {_gib(available)} are free"
    rows, columns = run.model.image_size
    problem = f"a batch of {run.recipe.batch_size} images of {rows}x{columns} needs about {_gib(needed)}"
    raise GossamerError(
        ErrorCode.LIMIT, "memory", f"{problem}, {_gib(available)} are free", _remedy(run, kept, processes, available)
    )


def _remedy(run: RunConfig, kept: int, processes: int, available: int) -> str:
    """Return the largest batch that fits, or what else to change."""
    if kept > USABLE * available:
        return f"the images alone take {_gib(kept)}: use a smaller --image-size"
    batch = run.recipe.batch_size // 2
    while batch >= processes:
        forecast = _needed(run, batch, processes, recompute=True)
        if forecast is not None and kept + forecast <= USABLE * available:
            return f"--batch-size {batch} --recompute needs about {_gib(kept + forecast)}"
        batch //= 2
    return "not even one image fits: use a smaller --image-size, or a mechanism whose work grows linearly"


def _needed(run: RunConfig, batch: int, processes: int, *, recompute: bool) -> int | None:
    share = -(-batch // processes)
    bfloat16 = run.recipe.precision == "bfloat16"
    forecast = forecast_training_memory(run.model, share, bfloat16=bfloat16, recompute=recompute)
    return None if forecast is None else processes * forecast.total


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
