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

from gossamer.comparison.folder import PRECISIONS, Precision
from gossamer.comparison.plan_file import Limits
from gossamer.inference.engines import EngineName
from gossamer.planning.benchmark import TORCH, Trial, measure_candidate, time_network
from gossamer.planning.candidates import Candidate
from gossamer.planning.cost_estimates import FAR, Screened, excess, in_order, matrix_rate, screen
from gossamer.profiling.figure import Figure

FORECAST_SHARE, QUICK_SHARE = 0.2, 0.45
"""Of the time, until which memory is forecast tensor by tensor, and PyTorch alone is timed."""
GAIN = 4.0
"""How many times quicker than PyTorch a bundle in 8 bits often is: one that PyTorch is too slow for may yet do."""
Verdict = Literal["yes", "no", "unavailable"]
Way = tuple[Precision, str]
"""A precision and the engine that computes it."""
_TORCH: Way = (TORCH, TORCH)


@dataclass(frozen=True, kw_only=True)
class Row:
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
        excess: largest ratio of a cost to its limit.
    """

    screened: Screened
    precision: Precision
    engine: str
    latency: Figure
    latency_p95: Figure
    memory: Figure
    verdict: Verdict
    certain: bool
    excess: float

    @property
    def name(self) -> str:
        """In words."""
        form = "PyTorch" if self.precision == TORCH else f"{self.precision} in {self.engine}"
        return f"{self.screened.candidate.name}, {form}"

    def to_json(self) -> dict[str, Any]:
        """Return the row as data."""
        candidate = self.screened.candidate
        return {
            "model": candidate.kind.model,
            "attention": candidate.kind.attention,
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
class Feasible:
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

    rows: tuple[Row, ...]
    rate: float
    measured: int
    timed: int
    candidates: int
    busy: bool = False

    @property
    def meeting(self) -> list[Row]:
        """The rows that meet the limits, by measurement or by forecast."""
        return [row for row in self.rows if row.verdict == "yes"]

    @property
    def nearest(self) -> Row | None:
        """The row that misses the limits by least."""
        return min((row for row in self.rows if row.verdict == "no"), key=lambda row: row.excess, default=None)


def find_feasible(
    candidates: Sequence[Candidate],
    limits: Limits,
    *,
    engines: Sequence[EngineName],
    threads: int,
    seconds: float,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Feasible:
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
    rate, count = matrix_rate(), len(candidates)
    done = iter(range(1, count + 1))
    screened = screen(
        candidates,
        rate,
        memory=limits.memory_mb is not None,
        seconds=FORECAST_SHARE * seconds,
        on_done=lambda: on_progress("forecast", next(done), count),
    )
    quick, full = {}, {}
    order = in_order(screened, limits, lambda one: one.bound_ms)
    for number, one in enumerate(order):
        if time.perf_counter() - begin > QUICK_SHARE * seconds:
            break
        quick[one.candidate] = [time_network(one.candidate)]
        on_progress("PyTorch", number + 1, len(order))
    model = Corrections(screened, quick)
    order = in_order(screened, limits, lambda one: model.latency_ms(one, _TORCH), FAR * GAIN)
    for number, one in enumerate(order):
        if time.perf_counter() - begin > seconds:
            break
        hopeless = None if limits.latency_ms is None else FAR * GAIN * limits.latency_ms / one.candidate.windows
        full[one.candidate] = measure_candidate(one.candidate, engines=engines, threads=threads, hopeless_ms=hopeless)
        on_progress("all precisions", number + 1, len(order))
    trials = {**quick, **full}
    ways: list[Way] = [_TORCH, *((each, engine) for each in PRECISIONS if each != TORCH for engine in engines)]
    rows = judge(screened, trials, ways, limits)
    return Feasible(
        rows=rows,
        rate=rate,
        measured=len(full),
        timed=len(quick.keys() - full.keys()),
        candidates=count,
        busy=any(trial.busy for tried in trials.values() for trial in tried),
    )


def judge(
    screened: Sequence[Screened], trials: dict[Candidate, list[Trial]], ways: Iterable[Way], limits: Limits
) -> tuple[Row, ...]:
    """Return a row for each candidate and way that something is known of, best first."""
    model, rows = Corrections(screened, trials), []
    ways = list(ways)
    for one in screened:
        known = {(trial.precision, trial.engine): trial for trial in trials.get(one.candidate, ())}
        rows += [_row(one, way, known.get(way), model, limits) for way in ways if way in known or model.knows(way)]
    return tuple(sorted(rows, key=_rank))


class Corrections:
    """Forecasts that were corrected by measurements: a factor for time, an addition for memory.

    The factor is the median of measured over forecast: of the same preset where any was measured, else of all. Where a
    preset was timed in PyTorch alone, that of a bundle follows from how bundles of others compare with PyTorch.
    """

    def __init__(self, screened: Sequence[Screened], trials: dict[Candidate, list[Trial]]) -> None:
        self._factors: dict[tuple[Way, str | None], list[float]] = defaultdict(list)
        self._beside_torch: dict[Way, list[float]] = defaultdict(list)
        self._additions: dict[Way, list[float]] = defaultdict(list)
        for one in screened:
            tried: dict[Way, Trial] = {
                (trial.precision, trial.engine): trial for trial in trials.get(one.candidate, ())
            }
            for way, trial in tried.items():
                if trial.latency_p50.value is not None:
                    factor = one.candidate.windows * trial.latency_p50.value / one.bound_ms
                    for model in (one.candidate.kind.model, None):
                        self._factors[way, model].append(factor)
                    beside = tried[_TORCH].latency_p50.value if _TORCH in tried else None
                    if beside:
                        self._beside_torch[way].append(trial.latency_p50.value / beside)
                if trial.peak_memory.value is not None and one.memory.value is not None:
                    self._additions[way].append(trial.peak_memory.value - one.memory.value)

    def knows(self, way: Way) -> bool:
        """Return whether anything can be said of a precision and engine."""
        return way == _TORCH or bool(self._beside_torch[way])

    def latency_ms(self, one: Screened, way: Way) -> float:
        """Return the latency of one image."""
        return one.bound_ms * self._factor(one, way)[0]

    def latency(self, one: Screened, way: Way) -> Figure:
        """Return the latency of one image as a figure."""
        factor, source = self._factor(one, way)
        detail = f"MACs at the rate of a large matrix product, times {factor:.2g} {source}"
        return Figure(one.bound_ms * factor, "ms", "modelled", detail)

    def memory(self, one: Screened, way: Way) -> Figure:
        """Return the peak of a process as a figure."""
        added = self._additions[way]
        if one.memory.value is None or (not added and way != _TORCH):
            return one.memory if one.memory.value is None else Figure(None, "bytes", "unavailable", "none was measured")
        shift = statistics.median(added) if added else 0.0
        detail = f"{one.memory.detail}, {shift / 1e6:+.0f} MB as measured of others" if added else one.memory.detail
        return Figure(max(0.0, one.memory.value + shift), "bytes", "modelled", detail)

    def _factor(self, one: Screened, way: Way) -> tuple[float, str]:
        model = one.candidate.kind.model
        if own := self._factors[way, model]:
            return statistics.median(own), f"as measured of {model}"
        if way != _TORCH and self._beside_torch[way]:
            factor, source = self._factor(one, _TORCH)
            return factor * statistics.median(self._beside_torch[way]), f"{source} in PyTorch, and of bundles of others"
        if every := self._factors[way, None]:
            return statistics.median(every), "as measured of other networks"
        return 1.0, "(a lower bound)"


def _row(one: Screened, way: Way, trial: Trial | None, model: Corrections, limits: Limits) -> Row:
    windows = one.candidate.windows
    if trial is None or trial.latency_p50.value is None:
        latency = model.latency(one, way) if trial is None else trial.latency_p50
        p95 = Figure(None, "ms", "unavailable", "not measured" if trial is None else trial.latency_p50.detail)
    else:
        latency, p95 = (_of_an_image(figure, windows) for figure in (trial.latency_p50, trial.latency_p95))
    memory = trial.peak_memory if trial is not None else None
    cannot = trial is not None and trial.latency_p50.value is None
    if not cannot and (memory is None or memory.value is None):
        memory = model.memory(one, way)
    assert memory is not None
    limited = [
        figure for figure, limit in ((latency, limits.latency_ms), (memory, limits.memory_mb)) if limit is not None
    ]
    ratio = excess(limits, latency.value, memory.value)
    # What is unknown meets no limit: "yes" needs every figure that a limit is set for.
    unknown = cannot or (ratio <= 1 and any(figure.value is None for figure in limited))
    return Row(
        screened=one,
        precision=way[0],
        engine=way[1],
        latency=latency,
        latency_p95=p95,
        memory=memory,
        verdict="unavailable" if unknown else "yes" if ratio <= 1 else "no",
        certain=all(figure.how == "measured" for figure in limited),
        excess=ratio,
    )


def _of_an_image(figure: Figure, windows: int) -> Figure:
    if windows == 1 or figure.value is None:
        return figure
    return Figure(
        windows * figure.value, "ms", figure.how, f"{windows} windows of the median case, each by {figure.detail}"
    )


def _rank(row: Row) -> tuple[Any, ...]:
    if row.verdict == "yes":
        return (0, not row.certain, -row.screened.macs, PRECISIONS.index(row.precision), row.engine)
    return (1 if row.verdict == "no" else 2, row.excess, -row.screened.macs, PRECISIONS.index(row.precision))
