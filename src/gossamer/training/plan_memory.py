"""Whether a run fits into this machine's memory, before it starts.

Forecasts of large inputs take many seconds, so what can be refused without one is refused first, a forecast that goes
far beyond what is free ends early, and larger batches are only tried where the smallest fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.models import NetworkConfig
from gossamer.profiling.machine import available_memory_bytes, process_memory
from gossamer.profiling.training_memory import TrainingMemory, forecast_training_memory
from gossamer.training.recipe import Recipe

USABLE = 0.9
"""Share of the free memory that a run may take."""
FAR = 4
"""A forecast ends at this many times what is free; what needs less is told to the tenth of a GiB."""
SLACK = {False: 0.25, True: 1.0}
"""What an allocator keeps of freed tensors at the most, as a share of a step's, without and with recomputing.

Measured with glibc: a rise of 1.12 to 1.23 times the forecast without, 1.3 to 1.7 times with recomputing, which frees
and takes many pieces below 32 MiB. Made to hand them back, the allocator costs 30 to 60 % more time.
"""
LARGE_INPUT = 2**22
"""Pixels of a batch's images above which a forecast is announced: it may take several seconds."""
GIB = 2**30


def plan_memory(
    model: NetworkConfig,
    recipe: Recipe,
    images: int,
    *,
    recompute: bool | None = None,
    processes: int = 1,
    available: int | None = None,
    on_stage: Callable[[str], None] = lambda text: None,
) -> tuple[Recipe, str | None]:
    """Return the recipe, with blocks that are recomputed where that is needed to fit, and one line on its memory.

    There is no line where it cannot be told: on a GPU, on a system that does not say how much memory is free, and for
    a network whose work depends on what it sees.

    Args:
        model: the network.
        recipe: of its training.
        images: how many prepared images are kept in memory.
        recompute: what the user wants; where it is needed if left out.
        processes: that share the memory, each with its part of a batch.
        available: bytes that are free; those of this machine if left out.
        on_stage: told before a forecast that may take long.

    Raises:
        GossamerError: ``E-BUSY``, where it does not fit, with what would.
    """
    available = available or available_memory_bytes()
    if available is None or (torch.cuda.is_available() and processes == 1):
        return recipe, None
    rows, columns = model.image_size
    kept = processes * 4 * images * model.in_channels * rows * columns
    if kept > USABLE * available:
        problem = f"{images} prepared images of {rows}x{columns} take {_gib(kept)}, {_gib(available)} are free"
        raise GossamerError(ErrorCode.BUSY, "memory", problem, "use a smaller --image-size")
    batch = recipe.batch_size
    if batch * rows * columns > LARGE_INPUT:
        on_stage(f"forecasting the memory of a batch of {batch} images of {rows}x{columns}")
    choices = [False, True] if recompute is None else [recompute]
    needed, more = 0, "about"
    for choice in choices:
        forecast = _forecast(model, recipe, batch, processes, recompute=choice, limit=FAR * available)
        if forecast is None:
            return recipe, None
        needed = kept + processes * forecast.total
        more = "more than" if forecast.at_least else "about"
        if needed <= USABLE * available and not forecast.at_least:
            changed = dataclasses.replace(recipe, recompute=choice)
            how = ", blocks are evaluated again in the backward pass to save it" if choice else ""
            resident = 0 if (now := process_memory()) is None else now.resident_bytes
            most = needed + processes * (resident + int(SLACK[choice] * forecast.step))
            whole = f"up to {_gib(most)} with the program itself and what its allocator keeps"
            return changed, f"memory: about {_gib(needed)} for training{how}, {whole}; {_gib(available)} are free"
    problem = f"a batch of {batch} images of {rows}x{columns} needs {more} {_gib(needed)}, {_gib(available)} are free"
    raise GossamerError(ErrorCode.BUSY, "memory", problem, _remedy(model, recipe, kept, processes, available))


def _remedy(model: NetworkConfig, recipe: Recipe, kept: int, processes: int, available: int) -> str:
    """Return the largest batch that fits, or what else to change. What does not fit is not counted to its end."""
    room = int(USABLE * available - kept)

    def fitting(batch: int) -> int | None:
        forecast = _forecast(model, recipe, batch, processes, recompute=True, limit=room // processes)
        if forecast is None or forecast.at_least or processes * forecast.total > room:
            return None
        return kept + processes * forecast.total

    smaller = [batch for power in range(1, 32) if (batch := recipe.batch_size >> power) >= processes]
    if smaller and (least := fitting(smaller[-1])) is not None:
        for batch in smaller[:-1]:
            if (needed := fitting(batch)) is not None:
                return f"--batch-size {batch} --recompute needs about {_gib(needed)}"
        return f"--batch-size {smaller[-1]} --recompute needs about {_gib(least)}"
    return "not even one image fits: use a smaller --image-size, or a mechanism whose work grows linearly"


def _forecast(
    model: NetworkConfig, recipe: Recipe, batch: int, processes: int, *, recompute: bool, limit: int
) -> TrainingMemory | None:
    """Return what one process needs for its share of a batch."""
    bfloat16 = recipe.precision == "bfloat16"
    share = -(-batch // processes)
    return forecast_training_memory(model, share, bfloat16=bfloat16, recompute=recompute, limit=limit)


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
