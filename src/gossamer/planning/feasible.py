"""Which networks, image sizes and precisions can meet a limit of latency and memory on this machine.

Nothing is trained and nothing is said about quality. Costs are forecast for all candidates; as many as the time allows
are measured, and what was measured corrects the forecasts of the rest.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.inference.engines import EngineName
from gossamer.planning.benchmark import TORCH, BenchmarkResult, measure_candidate, time_network
from gossamer.planning.candidates import ModelCandidate
from gossamer.planning.cost_estimates import (
    FAR,
    EstimatedCandidate,
    estimate_costs,
    measure_matrix_rate,
    order_candidates,
    worst_ratio,
)
from gossamer.profiling.figure import Figure
from gossamer.variants import PRECISIONS, CostLimits, RuntimePrecision

FORECAST_SHARE, QUICK_SHARE = 0.2, 0.45
"""Of the time, until which memory is forecast tensor by tensor, and PyTorch alone is timed."""
GAIN = 4.0
"""How many times quicker than PyTorch a bundle in 8 bits often is: one that PyTorch is too slow for may yet do."""
LimitVerdict = Literal["yes", "no", "unavailable"]
ModelForm = tuple[RuntimePrecision, str]
"""A precision and the engine that computes it."""
_TORCH: ModelForm = (TORCH, TORCH)


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """A network at an image size in one precision and engine, held against the limits.

    Attributes:
        screened: the network with its forecast.
        precision: of the network.
        engine: ``torch``, or that of a bundle.
        latency: of one image, all of its windows: the median.
        latency_p95: the same, 95th percentile.
        memory: peak of a fresh process.
        verdict: whether the limits are met; ``unavailable`` where the network cannot be had in this form.
        certain: whether all that the verdict rests on was measured.
        worst_ratio: largest ratio of a cost to its limit.
    """

    screened: EstimatedCandidate
    precision: RuntimePrecision
    engine: str
    latency: Figure
    latency_p95: Figure
    memory: Figure
    verdict: LimitVerdict
    certain: bool
    worst_ratio: float

    @property
    def name(self) -> str:
        """In words."""
        form = "PyTorch" if self.precision == TORCH else f"{self.precision} in {self.engine}"
        return f"{self.screened.candidate.name}, {form}"

    def to_json(self) -> dict[str, Any]:
        """Return the row as data."""
        candidate = self.screened.candidate
        return {
            "model": candidate.variant.model,
            "attention": candidate.variant.attention,
            "image_size": list(candidate.image_size),
            "windows": candidate.windows,
            "precision": self.precision,
            "engine": self.engine,
            "parameters": self.screened.parameters,
            "macs": self.screened.macs,
            "latency": self.latency.to_json(),
            "latency_p95": self.latency_p95.to_json(),
            "memory": self.memory.to_json(),
            "meets": "perhaps" if self.verdict == "yes" and not self.certain else self.verdict,
            "certain": self.certain,
        }


@dataclass(frozen=True, kw_only=True)
class FeasibleModels:
    """What can meet the limits.

    Attributes:
        rows: best first: those that meet the limits before those that do not, measured before forecast, larger before
            smaller; of those that do not, the nearest first.
        rate: multiply-accumulates per second of a large matrix product.
        measured: candidates of which everything was measured.
        timed: candidates of which PyTorch's latency alone was measured.
        candidates: all of them.
        busy: whether others had the machine while something was timed: those times are upper bounds.
    """

    rows: tuple[PlanRow, ...]
    rate: float
    measured: int
    timed: int
    candidates: int
    busy: bool = False

    @property
    def meeting(self) -> list[PlanRow]:
        """The rows that meet the limits, by measurement or by forecast."""
        return [row for row in self.rows if row.verdict == "yes"]

    @property
    def nearest(self) -> PlanRow | None:
        """The row that misses the limits by least."""
        return min((row for row in self.rows if row.verdict == "no"), key=lambda row: row.worst_ratio, default=None)


def find_feasible(
    candidates: Sequence[ModelCandidate],
    limits: CostLimits,
    *,
    engines: Sequence[EngineName],
    threads: int,
    seconds: float,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> FeasibleModels:
    """Return which candidates meet the limits.

    Args:
        candidates: any number.
        limits: at least one.
        engines: of bundles.
        threads: of the processor, which torch has been set to.
        seconds: after which nothing more is measured; what is being measured then is brought to its end.
        on_progress: told the stage, how many candidates it is through with, and their total.
    """
    begin = time.perf_counter()
    rate, count = measure_matrix_rate(), len(candidates)
    done = iter(range(1, count + 1))
    screened = estimate_costs(
        candidates,
        rate,
        memory=limits.memory_mb is not None,
        seconds=FORECAST_SHARE * seconds,
        on_done=lambda: on_progress("forecast", next(done), count),
    )
    quick, full = {}, {}
    order = order_candidates(screened, limits, lambda one: one.bound_ms)
    for number, one in enumerate(order):
        if time.perf_counter() - begin > QUICK_SHARE * seconds:
            break
        quick[one.candidate] = [time_network(one.candidate)]
        on_progress("PyTorch", number + 1, len(order))
    model = Corrections(screened, quick)
    order = order_candidates(screened, limits, lambda one: model.latency_ms(one, _TORCH), FAR * GAIN)
    for number, one in enumerate(order):
        if time.perf_counter() - begin > seconds:
            break
        hopeless = None if limits.latency_ms is None else FAR * GAIN * limits.latency_ms / one.candidate.windows
        full[one.candidate] = measure_candidate(one.candidate, engines=engines, threads=threads, hopeless_ms=hopeless)
        on_progress("all precisions", number + 1, len(order))
    benchmarks = {**quick, **full}
    ways: list[ModelForm] = [_TORCH, *((each, engine) for each in PRECISIONS if each != TORCH for engine in engines)]
    rows = judge_candidates(screened, benchmarks, ways, limits)
    return FeasibleModels(
        rows=rows,
        rate=rate,
        measured=len(full),
        timed=len(quick.keys() - full.keys()),
        candidates=count,
        busy=any(benchmark.busy for tried in benchmarks.values() for benchmark in tried),
    )


def judge_candidates(
    screened: Sequence[EstimatedCandidate],
    benchmarks: dict[ModelCandidate, list[BenchmarkResult]],
    ways: Iterable[ModelForm],
    limits: CostLimits,
) -> tuple[PlanRow, ...]:
    """Return a row for each candidate and way that something is known of, best first."""
    model, rows = Corrections(screened, benchmarks), []
    ways = list(ways)
    for one in screened:
        known = {(benchmark.precision, benchmark.engine): benchmark for benchmark in benchmarks.get(one.candidate, ())}
        rows += [
            _judge_candidate(one, way, known.get(way), model, limits)
            for way in ways
            if way in known or model.knows(way)
        ]
    return tuple(sorted(rows, key=_sort_key))


class Corrections:
    """Forecasts that were corrected by measurements: a factor for time, an addition for memory.

    The factor is the median of measured over forecast: of the same preset where any was measured, else of all. Where a
    preset was timed in PyTorch alone, that of a bundle follows from how bundles of others compare with PyTorch.
    """

    def __init__(
        self, screened: Sequence[EstimatedCandidate], benchmarks: dict[ModelCandidate, list[BenchmarkResult]]
    ) -> None:
        self._factors: dict[tuple[ModelForm, str | None], list[float]] = defaultdict(list)
        self._beside_torch: dict[ModelForm, list[float]] = defaultdict(list)
        self._additions: dict[ModelForm, list[float]] = defaultdict(list)
        for one in screened:
            tried: dict[ModelForm, BenchmarkResult] = {
                (benchmark.precision, benchmark.engine): benchmark for benchmark in benchmarks.get(one.candidate, ())
            }
            for way, benchmark in tried.items():
                if benchmark.latency_p50.value is not None:
                    factor = one.candidate.windows * benchmark.latency_p50.value / one.bound_ms
                    for model in (one.candidate.variant.model, None):
                        self._factors[way, model].append(factor)
                    beside = tried[_TORCH].latency_p50.value if _TORCH in tried else None
                    if beside:
                        self._beside_torch[way].append(benchmark.latency_p50.value / beside)
                if benchmark.peak_memory.value is not None and one.memory.value is not None:
                    self._additions[way].append(benchmark.peak_memory.value - one.memory.value)

    def knows(self, way: ModelForm) -> bool:
        """Return whether anything can be said of a precision and engine."""
        return way == _TORCH or bool(self._beside_torch[way])

    def latency_ms(self, one: EstimatedCandidate, way: ModelForm) -> float:
        """Return the latency of one image."""
        return one.bound_ms * self._factor(one, way)[0]

    def latency(self, one: EstimatedCandidate, way: ModelForm) -> Figure:
        """Return the latency of one image as a figure."""
        factor, source = self._factor(one, way)
        detail = f"MACs at the rate of a large matrix product, times {factor:.2g} {source}"
        return Figure(one.bound_ms * factor, "ms", "modelled", detail)

    def memory(self, one: EstimatedCandidate, way: ModelForm) -> Figure:
        """Return the peak of a process as a figure."""
        added = self._additions[way]
        if one.memory.value is None or (not added and way != _TORCH):
            return one.memory if one.memory.value is None else Figure(None, "bytes", "unavailable", "none was measured")
        shift = statistics.median(added) if added else 0.0
        detail = f"{one.memory.detail}, {shift / 1e6:+.0f} MB as measured of others" if added else one.memory.detail
        return Figure(max(0.0, one.memory.value + shift), "bytes", "modelled", detail)

    def _factor(self, one: EstimatedCandidate, way: ModelForm) -> tuple[float, str]:
        model = one.candidate.variant.model
        if own := self._factors[way, model]:
            return statistics.median(own), f"as measured of {model}"
        if way != _TORCH and self._beside_torch[way]:
            factor, source = self._factor(one, _TORCH)
            return factor * statistics.median(self._beside_torch[way]), f"{source} in PyTorch, and of bundles of others"
        if every := self._factors[way, None]:
            return statistics.median(every), "as measured of other networks"
        return 1.0, "(a lower bound)"


def _judge_candidate(
    one: EstimatedCandidate, way: ModelForm, benchmark: BenchmarkResult | None, model: Corrections, limits: CostLimits
) -> PlanRow:
    windows = one.candidate.windows
    if benchmark is None or benchmark.latency_p50.value is None:
        latency = model.latency(one, way) if benchmark is None else benchmark.latency_p50
        p95 = Figure(None, "ms", "unavailable", "not measured" if benchmark is None else benchmark.latency_p50.detail)
    else:
        latency, p95 = (_scale_to_image(figure, windows) for figure in (benchmark.latency_p50, benchmark.latency_p95))
    memory = benchmark.peak_memory if benchmark is not None else None
    cannot = benchmark is not None and benchmark.latency_p50.value is None
    if not cannot and (memory is None or memory.value is None):
        memory = model.memory(one, way)
    assert memory is not None
    limited = [
        figure for figure, limit in ((latency, limits.latency_ms), (memory, limits.memory_mb)) if limit is not None
    ]
    ratio = worst_ratio(limits, latency.value, memory.value)
    # What is unknown meets no limit: "yes" needs every figure that a limit is set for.
    unknown = cannot or (ratio <= 1 and any(figure.value is None for figure in limited))
    return PlanRow(
        screened=one,
        precision=way[0],
        engine=way[1],
        latency=latency,
        latency_p95=p95,
        memory=memory,
        verdict="unavailable" if unknown else "yes" if ratio <= 1 else "no",
        certain=all(figure.how == "measured" for figure in limited),
        worst_ratio=ratio,
    )


def _scale_to_image(figure: Figure, windows: int) -> Figure:
    if windows == 1 or figure.value is None:
        return figure
    return Figure(
        windows * figure.value, "ms", figure.how, f"{windows} windows of the median case, each by {figure.detail}"
    )


def _sort_key(row: PlanRow) -> tuple[Any, ...]:
    if row.verdict == "yes":
        return (0, not row.certain, -row.screened.macs, PRECISIONS.index(row.precision), row.engine)
    return (1 if row.verdict == "no" else 2, row.worst_ratio, -row.screened.macs, PRECISIONS.index(row.precision))
