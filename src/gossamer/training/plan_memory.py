"""A check before a run starts: whether it fits into the memory of this machine.

Forecasts of large inputs take many seconds, so what can be refused without one is refused first, a forecast far above
the free memory ends early, and larger batches are tried only if the smallest fits.
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
"""Multiple of the free memory at which a forecast ends."""
SLACK = {False: 0.25, True: 1.0}
"""Largest share of a step's tensors that an allocator keeps after they are freed, without and with recomputation.

Measured with glibc: memory grows by 1.12 to 1.23 times the forecast without recomputation, and by 1.3 to 1.7 times with
it, which allocates and frees many pieces below 32 MiB. An allocator that returns them takes 30 to 60 % more time.
"""
LARGE_INPUT = 2**22
"""Number of pixels in a batch above which a forecast is announced, since it may take several seconds."""
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
    """Return the recipe, with recomputation of blocks if it is needed to fit, and one line on the memory.

    The line is None where memory cannot be forecast: on a GPU, on a system that does not report its free memory, and
    for a network whose work depends on the contents of the images.

    Args:
        model: Config of the network.
        recipe: Recipe of training.
        images: Number of prepared images kept in memory.
        recompute: Whether blocks are recomputed (default: only if it is needed to fit).
        processes: Number of processes that share the memory, each with its part of a batch.
        available: Free memory in bytes (default: that of this machine).
        on_stage: Function called with a line before a forecast that may take long.

    Raises:
        GossamerError: ``E-BUSY`` if the run does not fit; the remedy names what would.
    """
    available = available or available_memory_bytes()
    if available is None or (torch.cuda.is_available() and processes == 1):
        return recipe, None
    rows, columns = model.image_size
    kept = processes * 4 * images * model.in_channels * rows * columns
    if kept > USABLE * available:
        taken = f"{images} prepared images of {rows}x{columns} take {_format_gib(kept)}"
        problem = f"{taken}, but only {_format_gib(available)} are free"
        raise GossamerError(ErrorCode.BUSY, "memory", problem, "use a smaller --image-size")
    batch, free = recipe.batch_size, _format_gib(available)
    if batch * rows * columns > LARGE_INPUT:
        on_stage(f"forecasting the memory of a batch of {batch} images of {rows}x{columns}")
    choices = [False, True] if recompute is None else [recompute]
    needed, more = 0, "about"
    for choice in choices:
        forecast = _forecast_share(model, recipe, batch, processes, recompute=choice, limit=FAR * available)
        if forecast is None:
            return recipe, None
        needed = kept + processes * forecast.total
        more = "more than" if forecast.at_least else "about"
        if needed <= USABLE * available and not forecast.at_least:
            changed = dataclasses.replace(recipe, recompute=choice)
            how = " (blocks are evaluated again in the backward pass to save memory)" if choice else ""
            resident = 0 if (now := process_memory()) is None else now.resident_bytes
            most = needed + processes * (resident + int(SLACK[choice] * forecast.step))
            whole = f"up to {_format_gib(most)} including the program and its allocator"
            return changed, f"memory: about {_format_gib(needed)} for training{how}, {whole}; {free} are free"
    taken = f"a batch of {batch} images of {rows}x{columns} needs {more} {_format_gib(needed)}"
    problem = f"{taken}, but only {free} are free"
    raise GossamerError(ErrorCode.BUSY, "memory", problem, _suggest_remedy(model, recipe, kept, processes, available))


def _suggest_remedy(model: NetworkConfig, recipe: Recipe, kept: int, processes: int, available: int) -> str:
    """Return the largest batch that fits, or what else to change. A forecast that exceeds the limit ends early."""
    room = int(USABLE * available - kept)

    def memory_if_fits(batch: int) -> int | None:
        forecast = _forecast_share(model, recipe, batch, processes, recompute=True, limit=room // processes)
        if forecast is None or forecast.at_least or processes * forecast.total > room:
            return None
        return kept + processes * forecast.total

    smaller = [batch for power in range(1, 32) if (batch := recipe.batch_size >> power) >= processes]
    if smaller and (least := memory_if_fits(smaller[-1])) is not None:
        for batch in smaller[:-1]:
            if (needed := memory_if_fits(batch)) is not None:
                return f"--batch-size {batch} --recompute needs about {_format_gib(needed)}"
        return f"--batch-size {smaller[-1]} --recompute needs about {_format_gib(least)}"
    return "a batch of one image does not fit either: use a smaller --image-size, or a mechanism of linear cost"


def _forecast_share(
    model: NetworkConfig, recipe: Recipe, batch: int, processes: int, *, recompute: bool, limit: int
) -> TrainingMemory | None:
    """Return the memory that one process needs for its share of a batch."""
    bfloat16 = recipe.precision == "bfloat16"
    share = -(-batch // processes)
    return forecast_training_memory(model, share, bfloat16=bfloat16, recompute=recompute, limit=limit)


def _format_gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
