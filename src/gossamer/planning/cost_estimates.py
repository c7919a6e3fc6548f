"""What candidates cost by equations and shapes alone, and in which order they are worth a measurement.

A network's latency is forecast as its multiply-accumulates over the rate of one large matrix product on this machine,
which no network reaches: a lower bound that is corrected by what is measured later.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from gossamer.planning.candidates import ModelCandidate
from gossamer.profiling.figure import Figure
from gossamer.profiling.latency import measure_latency
from gossamer.profiling.memory import bare_process_bytes, forecast_memory
from gossamer.variants import CostLimits

FAR = 3.0
"""What misses a limit by more than this factor is not measured."""
_SIDE = 768
"""Of the square matrices that the rate is measured with."""


@dataclass(frozen=True, kw_only=True)
class EstimatedCandidate:
    """A candidate with what is known of it before anything runs.

    Attributes:
        candidate: it.
        parameters: of its network.
        macs: closed form, of one image: all of its windows.
        bound_ms: what one image takes at the rate of a large matrix product.
        memory: forecast of the peak of a process with PyTorch, one image or window a call.
    """

    candidate: ModelCandidate
    parameters: int
    macs: int
    bound_ms: float
    memory: Figure


def measure_matrix_rate() -> float:
    """Return the multiply-accumulates per second of a large float32 matrix product with torch's threads."""
    left, right = torch.ones(_SIDE, _SIDE), torch.ones(_SIDE, _SIDE)
    taken = measure_latency(lambda: torch.mm(left, right), seconds=0.5, min_calls=5)
    return _SIDE**3 / (1e-3 * taken.p50_ms)


def estimate_costs(
    candidates: Iterable[ModelCandidate], rate: float, *, memory: bool, seconds: float, on_done: Callable[[], None]
) -> list[EstimatedCandidate]:
    """Return what each candidate costs by forecast.

    Args:
        candidates: any number.
        rate: multiply-accumulates per second.
        memory: whether to forecast memory too.
        seconds: after which memory is forecast from the largest tensor alone.
        on_done: called after each.
    """
    bare = bare_process_bytes() if memory else None
    deadline = time.perf_counter() + seconds
    found = []
    for candidate in candidates:
        with torch.device("meta"):  # shapes are enough
            network = candidate.network.build().eval()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        cost = network.cost()
        macs = candidate.windows * cost.macs
        forecast = Figure(None, "bytes", "unavailable", "not forecast, since no limit was given or none can be read")
        if bare is not None:
            needed = forecast_memory(candidate.network) if time.perf_counter() < deadline else None
            # Without time for all shapes: the weights, and what the largest operator reads and writes.
            least = bare + 4 * (parameters + 2 * cost.largest_intermediate)
            if needed is None:
                forecast = Figure(least, "bytes", "modelled", "process with torch, from the largest tensor alone")
            else:
                forecast = Figure(needed.process_bytes(bare), "bytes", "modelled", "process with torch, from shapes")
        found.append(
            EstimatedCandidate(
                candidate=candidate,
                parameters=parameters,
                macs=macs,
                bound_ms=1e3 * macs / rate,
                memory=forecast,
            )
        )
        on_done()
    return found


def order_candidates(
    screened: Iterable[EstimatedCandidate],
    limits: CostLimits,
    forecast_ms: Callable[[EstimatedCandidate], float],
    far: float = FAR,
) -> list[EstimatedCandidate]:
    """Return the candidates that are worth a measurement, the most promising first.

    Those that are forecast to meet the limits come before those that are not; within each, presets take turns, the
    largest network and image of each first.

    Args:
        screened: candidates.
        limits: of the machine.
        forecast_ms: latency of one image.
        far: what misses a limit by more than this factor is left out.
    """
    promising: dict[bool, dict[str, list[EstimatedCandidate]]] = {True: defaultdict(list), False: defaultdict(list)}
    for one in sorted(screened, key=lambda one: -one.macs):
        worst = worst_ratio(limits, forecast_ms(one), one.memory.value)
        if worst <= far:
            promising[worst <= 1][one.candidate.variant.model].append(one)
    ordered = []
    for group in promising.values():
        for turn in range(max(map(len, group.values()), default=0)):
            ordered += [queue[turn] for queue in group.values() if turn < len(queue)]
    return ordered


def worst_ratio(limits: CostLimits, latency_ms: float | None, memory_bytes: float | None) -> float:
    """Return the largest ratio of a cost to its limit; what is unknown counts as 0."""
    ratios = [0.0]
    if limits.latency_ms is not None and latency_ms is not None:
        ratios.append(latency_ms / limits.latency_ms)
    if limits.memory_mb is not None and memory_bytes is not None:
        ratios.append(memory_bytes / (1e6 * limits.memory_mb))
    return max(ratios)
