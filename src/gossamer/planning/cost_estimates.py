"""Costs of candidates from equations and shapes alone, and the order in which candidates are worth measuring.

The latency of a network is estimated as its multiply-accumulates divided by the rate of a large matrix product on this
machine. No network reaches that rate: the estimate is a lower bound, which later measurements correct.
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
from gossamer.variants import MB, CostLimits

FAR = 3.0
"""Factor above a limit beyond which a candidate is not measured."""
_SIDE = 768
"""Side of the square matrices whose product gives the rate."""


@dataclass(frozen=True, kw_only=True)
class EstimatedCandidate:
    """A candidate with its costs before anything runs.

    Attributes:
        candidate: Candidate.
        parameters: Number of parameters of the network.
        macs: Multiply-accumulates of one image, with all of its windows, in closed form.
        bound_ms: Latency of one image at the rate of a large matrix product, in milliseconds.
        memory: Estimated peak memory of a process with PyTorch and one image or window per call.
    """

    candidate: ModelCandidate
    parameters: int
    macs: int
    bound_ms: float
    memory: Figure


def measure_matrix_rate() -> float:
    """Return the multiply-accumulates per second of a large float32 matrix product."""
    left, right = torch.ones(_SIDE, _SIDE), torch.ones(_SIDE, _SIDE)
    latency = measure_latency(lambda: torch.mm(left, right), seconds=0.5, min_calls=5)
    return _SIDE**3 / (1e-3 * latency.p50_ms)


def estimate_costs(
    candidates: Iterable[ModelCandidate], rate: float, *, memory: bool, seconds: float, on_done: Callable[[], None]
) -> list[EstimatedCandidate]:
    """Return the estimated costs of each candidate.

    Args:
        candidates: Candidates.
        rate: Multiply-accumulates per second.
        memory: Whether memory is estimated too.
        seconds: Time in seconds after which memory is estimated from the largest tensor only.
        on_done: Function that is called after each candidate.
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
        estimate = Figure(None, "bytes", "unavailable", "not estimated: there is no limit, or memory cannot be read")
        if bare is not None:
            needed = forecast_memory(candidate.network) if time.perf_counter() < deadline else None
            # Without time for all shapes: the weights, and the input and output of the largest operator.
            least = bare + 4 * (parameters + 2 * cost.largest_intermediate)
            if needed is None:
                estimate = Figure(least, "bytes", "modelled", "process with torch, from the largest tensor only")
            else:
                estimate = Figure(needed.process_bytes(bare), "bytes", "modelled", "process with torch, from shapes")
        found.append(
            EstimatedCandidate(
                candidate=candidate,
                parameters=parameters,
                macs=macs,
                bound_ms=1e3 * macs / rate,
                memory=estimate,
            )
        )
        on_done()
    return found


def order_candidates(
    estimated: Iterable[EstimatedCandidate],
    limits: CostLimits,
    latency_ms: Callable[[EstimatedCandidate], float],
    far: float = FAR,
) -> list[EstimatedCandidate]:
    """Return the candidates that are worth measuring, the most promising first.

    Candidates with estimates within the limits come first. Within each half presets take turns, with the largest
    network and image of each first.

    Args:
        estimated: Candidates with their estimates.
        limits: Limits of latency and memory.
        latency_ms: Function that returns the estimated latency of one image in milliseconds.
        far: Factor above a limit beyond which a candidate is omitted (default: ``FAR``).
    """
    promising: dict[bool, dict[str, list[EstimatedCandidate]]] = {True: defaultdict(list), False: defaultdict(list)}
    for one in sorted(estimated, key=lambda one: -one.macs):
        worst = worst_ratio(limits, latency_ms(one), one.memory.value)
        if worst <= far:
            promising[worst <= 1][one.candidate.variant.model].append(one)
    ordered = []
    for group in promising.values():
        for turn in range(max(map(len, group.values()), default=0)):
            ordered += [queue[turn] for queue in group.values() if turn < len(queue)]
    return ordered


def worst_ratio(limits: CostLimits, latency_ms: float | None, memory_bytes: float | None) -> float:
    """Return the largest ratio of a cost to its limit; an unknown cost counts as 0.

    Args:
        limits: Limits of latency and memory.
        latency_ms: Latency of one image in milliseconds; None if unknown.
        memory_bytes: Peak memory of a process in bytes; None if unknown.
    """
    ratios = [0.0]
    if limits.latency_ms is not None and latency_ms is not None:
        ratios.append(latency_ms / limits.latency_ms)
    if limits.memory_mb is not None and memory_bytes is not None:
        ratios.append(memory_bytes / (MB * limits.memory_mb))
    return max(ratios)
