"""``gossamer.plan``: models that fit a budget of latency or memory on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.api.environment import require_training_packages, torch_threads
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments, parse_size
from gossamer.checks import require
from gossamer.comparison.request import name_mechanisms, parse_names
from gossamer.data import open_dataset
from gossamer.inference.engines import EngineName
from gossamer.nn.attention import AttentionLike
from gossamer.planning.benchmark import NOT_MADE, find_engines
from gossamer.planning.candidates import list_candidates
from gossamer.planning.feasible import FeasibleModels, PlanRow, find_feasible
from gossamer.profiling.figure import Figure, format_quantity
from gossamer.progress import Progress
from gossamer.summary import Result, SummaryTable
from gossamer.task import TaskName
from gossamer.variants import MB, CostLimits

__all__ = ["Plan", "plan"]

MOST_MEASURED, MOST_ESTIMATED, MOST_EXCEEDING = 20, 10, 5
"""Largest numbers of rows in the tables; ``to_dict`` has all rows."""


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """Models compared with a budget of latency and memory on this machine.

    Attributes:
        data: Path of the data.
        limits: Limits of latency and memory.
        threads: Number of CPU threads.
        engines: Engines of bundles.
        found: Rows for every network, image size and precision.
        refused: Requested combinations that cannot be trained on the data, each with its reason.
    """

    data: str
    limits: CostLimits
    threads: int
    engines: tuple[EngineName, ...]
    found: FeasibleModels
    refused: tuple[str, ...]

    @property
    def rows(self) -> tuple[PlanRow, ...]:
        """Rows, best first."""
        return self.found.rows

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as values that JSON can hold."""
        found, closest = self.found, self.found.closest
        return {
            "data": self.data,
            "threads": self.threads,
            "engines": list(self.engines),
            "limits": {"latency_ms": self.limits.latency_ms, "memory_mb": self.limits.memory_mb},
            "candidates": found.candidates,
            "measured": found.measured,
            "timed": found.timed,
            "machine_was_busy": found.busy,
            "matrix_macs_per_second": found.rate,
            "rows": [row.to_json() for row in found.rows],
            "nearest": None if found.within or closest is None else closest.to_json(),
            "refused": list(self.refused),
        }

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the models within the budget, those that may be, the closest others, and notes."""
        found = self.found
        exceeding = sorted((row for row in found.rows if row.verdict == "no"), key=lambda row: row.worst_ratio)
        unknown = [row for row in found.rows if row.verdict == "unavailable"]
        measured = [row for row in found.within if row.certain]
        estimated = [row for row in found.within if not row.certain]
        sections = (
            ("Within budget, measured (larger networks first)", measured[:MOST_MEASURED]),
            ("May fit (estimated only, often too low)", estimated[:MOST_ESTIMATED]),
            ("Over budget (closest first)", exceeding[:MOST_EXCEEDING]),
        )
        counts = (
            f"{len(measured)} within budget, {len(estimated)} may fit, {len(exceeding)} over, {len(unknown)} unknown"
        )
        notes = [
            ("budget", self._describe_budget()),
            *([] if found.within else [("result", self._describe_closest())]),
            ("rows", f"{counts}; {sum(len(rows) for _, rows in sections)} are shown, to_dict() and --json have all"),
            ("measured", f"{found.measured} of {found.candidates} completely, {found.timed} only in PyTorch; "
             "a larger budget_minutes measures more; ~ marks estimates"),
            *([("timing", "other processes used the machine: latencies are upper bounds")] if found.busy else []),
            *([("windows", "latency covers all windows of the median case, memory one window per call")]
              if self._has_windows else []),
            *(("not possible", line) for line in dict.fromkeys([*_list_reasons(unknown), *self.refused])),
            ("quality", "not considered; gossamer compare trains and compares a few of these"),
        ]  # fmt: skip
        tables = [self._create_table(title, rows) for title, rows in sections if rows]
        return (*tables, SummaryTable(title="", headings=("", ""), rows=tuple(notes)))

    @property
    def _has_windows(self) -> bool:
        return any(row.estimated.candidate.windows > 1 for row in self.found.rows)

    def _describe_budget(self) -> str:
        limits = [f"{self.limits.latency_ms:g} ms per image"] if self.limits.latency_ms is not None else []
        limits += [f"{self.limits.memory_mb:g} MB"] if self.limits.memory_mb is not None else []
        return f"{' and '.join(limits)}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def _describe_closest(self) -> str:
        closest = self.found.closest
        if closest is None:
            return "nothing is within the budget"
        costs = [_format_cost(closest.latency)] if self.limits.latency_ms is not None else []
        costs += [_format_cost(closest.memory)] if self.limits.memory_mb is not None else []
        how = "measured" if closest.certain else "estimated"
        return f"nothing is within the budget; closest is {closest.name}: {', '.join(costs)}, {how}"

    def _create_table(self, title: str, rows: Sequence[PlanRow]) -> SummaryTable:
        windows = ("windows",) if self._has_windows else ()
        headings = ("network", "attention", "size", *windows, "precision", "p50", "p95", "memory")
        return SummaryTable(title=title, headings=headings, rows=tuple(self._create_row(row) for row in rows))

    def _create_row(self, row: PlanRow) -> tuple[str, ...]:
        candidate = row.estimated.candidate
        precision = f"{row.precision} {row.engine}" if len(self.engines) > 1 else row.precision
        return (
            candidate.variant.model,
            "–" if candidate.variant.attention is None else candidate.variant.mechanism_name,
            "x".join(map(str, candidate.image_size)),
            *((str(candidate.windows),) if self._has_windows else ()),
            "PyTorch" if row.engine == "torch" else precision,
            _format_cost(row.latency),
            _format_cost(row.latency_p95),
            _format_cost(row.memory),
        )


@checked_arguments
def plan(
    data: str | Path,
    *,
    max_latency_ms: float | None = None,
    max_memory_mb: float | None = None,
    models: str | Iterable[str] | None = None,
    attention: str | Iterable[AttentionLike] | None = None,
    image_sizes: str | Iterable[str | tuple[int, int]] | None = None,
    engine: str | Iterable[str] | None = None,
    task: TaskName | None = None,
    threads: int | None = None,
    budget_minutes: float = 5.0,
    progress: bool | Progress | None = None,
) -> Plan:
    """List models that fit a latency or memory budget on this machine.

    Nothing is trained: the costs of networks with fresh weights are estimated, and measured as far as the time allows,
    in PyTorch and as bundles in float32 and int8. Quality is not considered; ``gossamer.compare`` does that.

    Example:
        >>> found = gossamer.plan("chest/", max_latency_ms=500, max_memory_mb=2000)  # doctest: +SKIP
        >>> found.rows[0].name  # doctest: +SKIP

    Args:
        data: Path of labelled images, in any layout of ``gossamer.open_dataset``.
        max_latency_ms: Largest median latency of one image with all of its windows, in milliseconds.
        max_memory_mb: Largest peak memory of a process, in MB of 10^6 bytes.
        models: Names of presets (default: the small ones of the task).
        attention: Attention mechanisms: names, references such as ``./mine.py:MyConfig``, or configs (default: each
            network's own, ``softmax``, ``sequence_norm`` and ``kv``).
        image_sizes: Rows and columns of the input in pixels (default: the recipe's size, half of it and twice it).
        engine: Engines of bundles: ``onnxruntime``, ``openvino`` or both (default: all that are installed).
        task: Name of the task (default: inferred from the labels).
        threads: Number of CPU threads (default: all available).
        budget_minutes: Time in minutes after which no measurement starts, 0 for estimates only (default: 5).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Returns:
        Every network, image size and precision, compared with the budget.

    Raises:
        GossamerError: The data or an option cannot be used, no limit is given, or no network fits the data.
    """
    require_training_packages("plan")
    limits = CostLimits(latency_ms=max_latency_ms, memory_mb=max_memory_mb)
    any_limit = max_latency_ms is not None or max_memory_mb is not None
    remedy = "give max_latency_ms (--max-latency-ms), max_memory_mb (--max-memory-mb) or both"
    require(any_limit, "gossamer plan", "a limit is missing", remedy)
    require(budget_minutes >= 0, "budget_minutes", f"{budget_minutes:g} is less than 0", "use 5, or 0 to only estimate")
    with torch_threads(threads) as used:
        engines = find_engines(_split_names(engine))
        sizes = None if image_sizes is None else [
            size for each in _split_names(image_sizes) or () if (size := parse_size(each, "image_sizes")) is not None
        ]  # fmt: skip
        dataset = open_dataset(Path(data), seed=0, task=task)
        candidates, refused = list_candidates(
            dataset,
            models=_split_names(models),
            attention=None if attention is None else name_mechanisms(attention),
            image_sizes=sizes,
        )
        found = find_feasible(
            candidates,
            limits,
            engines=engines,
            threads=used,
            seconds=60 * budget_minutes,
            progress=choose_progress(progress),
        )
    return Plan(dataset.source, limits, used, tuple(engines), found, tuple(refused))


def _split_names(value: Any) -> Any:
    """Return the parts of a text with commas; any other value without a change."""
    return parse_names(value) if isinstance(value, str) else value


def _format_cost(figure: Figure) -> str:
    """Return a figure for people, with a mark on estimates."""
    if figure.value is None:
        return "–"
    text = f"{figure.value / MB:.0f} MB" if figure.unit == "bytes" else format_quantity(figure.value, figure.unit)
    return f"~{text}" if figure.how == "modelled" else text


def _list_reasons(rows: Sequence[PlanRow]) -> list[str]:
    """Return why networks do not exist in a precision and engine, for the forms that were tried."""
    return [
        f"{row.name}: {row.latency.detail}"
        for row in rows
        if row.latency.how == "unavailable" and not row.latency.detail.startswith(NOT_MADE)
    ]
