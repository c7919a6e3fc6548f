"""Networks, image sizes and precisions that meet a limit of latency or memory on this machine.

Nothing is trained, and quality is not considered. Costs are estimated for all candidates. As many as the time allows
are measured, and the measurements correct the estimates of the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.inference.engines import EngineName
from gossamer.planning.benchmark import TORCH, BenchmarkResult, Form, measure_candidate, time_network
from gossamer.planning.candidates import ModelCandidate
from gossamer.planning.corrections import TORCH_FORM, Benchmarks, Corrections, index_forms
from gossamer.planning.cost_estimates import (
    FAR,
    EstimatedCandidate,
    estimate_costs,
    measure_matrix_rate,
    order_candidates,
    worst_ratio,
)
from gossamer.profiling.figure import Figure
from gossamer.progress import SILENT, Progress
from gossamer.variants import PRECISIONS, CostLimits, RuntimePrecision

ESTIMATE_SHARE, QUICK_SHARE = 0.2, 0.45
"""Shares of the time after which memory is estimated roughly, and after which no network is timed in PyTorch only."""
GAIN = 4.0
"""Assumed speed of a bundle in int8 relative to PyTorch, so that a network too slow in PyTorch is still tried."""


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """A candidate in one precision and engine, compared with the limits.

    Attributes:
        estimated: Candidate with its estimates.
        precision: Precision of the network.
        engine: ``torch``, or the engine of a bundle.
        latency: Median latency of one image, with all of its windows.
        latency_p95: 95th percentile of the latency.
        memory: Peak memory of a fresh process.
        verdict: Whether the limits are met; ``unavailable`` if the network does not exist in this form.
        certain: Whether every limited cost was measured.
        worst_ratio: Largest ratio of a cost to its limit.
    """

    estimated: EstimatedCandidate
    precision: RuntimePrecision
    engine: str
    latency: Figure
    latency_p95: Figure
    memory: Figure
    verdict: Literal["yes", "no", "unavailable"]
    certain: bool
    worst_ratio: float

    @property
    def name(self) -> str:
        """Name for people."""
        form = "PyTorch" if self.precision == TORCH else f"{self.precision} in {self.engine}"
        return f"{self.estimated.candidate.name}, {form}"

    def to_json(self) -> dict[str, Any]:
        """Return the row as values that JSON can hold."""
        candidate = self.estimated.candidate
        return {
            "model": candidate.variant.model,
            "attention": candidate.variant.attention,
            "image_size": list(candidate.image_size),
            "windows": candidate.windows,
            "precision": self.precision,
            "engine": self.engine,
            "parameters": self.estimated.parameters,
            "macs": self.estimated.macs,
            "latency": self.latency.to_json(),
            "latency_p95": self.latency_p95.to_json(),
            "memory": self.memory.to_json(),
            "meets": "perhaps" if self.verdict == "yes" and not self.certain else self.verdict,
            "certain": self.certain,
        }


@dataclass(frozen=True, kw_only=True)
class FeasibleModels:
    """Candidates compared with the limits.

    Attributes:
        rows: Rows, best first: rows within the limits before others, measured before estimated, larger before smaller
            networks; of rows above the limits the closest first.
        rate: Multiply-accumulates per second of a large matrix product.
        measured: Number of candidates with complete measurements.
        timed: Number of candidates that were timed only in PyTorch.
        candidates: Number of all candidates.
        busy: Whether other processes used the machine during a timing, so that latencies are upper bounds.
    """

    rows: tuple[PlanRow, ...]
    rate: float
    measured: int
    timed: int
    candidates: int
    busy: bool = False

    @property
    def within(self) -> list[PlanRow]:
        """Rows within the limits, measured or estimated."""
        return [row for row in self.rows if row.verdict == "yes"]

    @property
    def closest(self) -> PlanRow | None:
        """Row above the limits with the smallest excess."""
        return min((row for row in self.rows if row.verdict == "no"), key=lambda row: row.worst_ratio, default=None)


def find_feasible(
    candidates: Sequence[ModelCandidate],
    limits: CostLimits,
    *,
    engines: Sequence[EngineName],
    threads: int,
    seconds: float,
    progress: Progress = SILENT,
) -> FeasibleModels:
    """Return which candidates meet the limits.

    Args:
        candidates: Candidates.
        limits: Limits of latency and memory, at least one.
        engines: Engines of bundles.
        threads: Number of CPU threads, which is also torch's.
        seconds: Time in seconds after which no measurement starts.
        progress: Receiver of progress.
    """
    begin = time.perf_counter()
    rate, count = measure_matrix_rate(), len(candidates)
    until = f"until {seconds / 60:g} minutes are over" if seconds else "none is measured"
    progress.show_message(f"estimating {count} networks and sizes, {until}")
    with progress.track_steps("estimating") as update:
        done = iter(range(1, count + 1))
        estimated = estimate_costs(
            candidates,
            rate,
            memory=limits.memory_mb is not None,
            seconds=ESTIMATE_SHARE * seconds,
            on_done=lambda: update(next(done), count),
        )
    quick: dict[ModelCandidate, list[BenchmarkResult]] = {}
    order = order_candidates(estimated, limits, lambda one: one.bound_ms)
    with progress.track_steps("timing in PyTorch") as update:
        for number, one in enumerate(order, start=1):
            if time.perf_counter() - begin > QUICK_SHARE * seconds:
                break
            quick[one.candidate] = [time_network(one.candidate)]
            update(number, len(order))
    full: dict[ModelCandidate, list[BenchmarkResult]] = {}
    model = Corrections(estimated, quick)
    order = order_candidates(estimated, limits, lambda one: model.estimate_latency_ms(one, TORCH_FORM), FAR * GAIN)
    with progress.track_steps("measuring") as update:
        for number, one in enumerate(order, start=1):
            if time.perf_counter() - begin > seconds:
                break
            hopeless = None if limits.latency_ms is None else FAR * GAIN * limits.latency_ms / one.candidate.windows
            full[one.candidate] = measure_candidate(
                one.candidate, engines=engines, threads=threads, hopeless_ms=hopeless
            )
            update(number, len(order))
    benchmarks = {**quick, **full}
    forms: list[Form] = [TORCH_FORM, *((each, engine) for each in PRECISIONS if each != TORCH for engine in engines)]
    return FeasibleModels(
        rows=judge_candidates(estimated, benchmarks, forms, limits),
        rate=rate,
        measured=len(full),
        timed=len(quick.keys() - full.keys()),
        candidates=count,
        busy=any(result.busy for results in benchmarks.values() for result in results),
    )


def judge_candidates(
    estimated: Sequence[EstimatedCandidate], benchmarks: Benchmarks, forms: Sequence[Form], limits: CostLimits
) -> tuple[PlanRow, ...]:
    """Return a row for each candidate and form that was measured or can be estimated, best first.

    Args:
        estimated: Candidates with their estimates.
        benchmarks: Measurements.
        forms: Precisions and engines.
        limits: Limits of latency and memory.
    """
    model, rows = Corrections(estimated, benchmarks), []
    for one in estimated:
        known = index_forms(benchmarks.get(one.candidate, ()))
        rows += [
            _judge_candidate(one, form, known.get(form), model, limits)
            for form in forms
            if form in known or model.can_estimate(form)
        ]
    return tuple(sorted(rows, key=_sort_key))


def _judge_candidate(
    one: EstimatedCandidate, form: Form, benchmark: BenchmarkResult | None, model: Corrections, limits: CostLimits
) -> PlanRow:
    windows = one.candidate.windows
    if benchmark is None or benchmark.latency_p50.value is None:
        latency = model.estimate_latency(one, form) if benchmark is None else benchmark.latency_p50
        detail = "not measured" if benchmark is None else benchmark.latency_p50.detail
        p95 = Figure(None, "ms", "unavailable", detail)
    else:
        latency, p95 = (_scale_to_image(figure, windows) for figure in (benchmark.latency_p50, benchmark.latency_p95))
    memory = benchmark.peak_memory if benchmark is not None else None
    is_missing = benchmark is not None and benchmark.latency_p50.value is None
    if not is_missing and (memory is None or memory.value is None):
        memory = model.estimate_memory(one, form)
    assert memory is not None
    limited = [
        figure for figure, limit in ((latency, limits.latency_ms), (memory, limits.memory_mb)) if limit is not None
    ]
    ratio = worst_ratio(limits, latency.value, memory.value)
    # An unknown cost meets no limit: "yes" needs a figure for every limit.
    unknown = is_missing or (ratio <= 1 and any(figure.value is None for figure in limited))
    return PlanRow(
        estimated=one,
        precision=form[0],
        engine=form[1],
        latency=latency,
        latency_p95=p95,
        memory=memory,
        verdict="unavailable" if unknown else "yes" if ratio <= 1 else "no",
        certain=all(figure.how == "measured" for figure in limited),
        worst_ratio=ratio,
    )


def _scale_to_image(figure: Figure, windows: int) -> Figure:
    """Return the latency of an image with all of its windows."""
    if windows == 1 or figure.value is None:
        return figure
    detail = f"{windows} windows of the median case, each by {figure.detail}"
    return Figure(windows * figure.value, "ms", figure.how, detail)


def _sort_key(row: PlanRow) -> tuple[Any, ...]:
    macs, precision = row.estimated.macs, PRECISIONS.index(row.precision)
    if row.verdict == "yes":
        return (0, not row.certain, -macs, precision, row.engine)
    return (1 if row.verdict == "no" else 2, row.worst_ratio, -macs, precision)
