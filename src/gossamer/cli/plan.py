"""``gossamer plan``: which networks, image sizes and precisions can meet a limit here, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gossamer.api.environment import require_training_packages, set_torch_threads
from gossamer.cli.numbers import Real
from gossamer.cli.output import Answer, Common, parse_size, progress, say
from gossamer.errors import ErrorCode, GossamerError

if TYPE_CHECKING:
    from gossamer.planning.feasible import FeasibleModels, PlanRow
    from gossamer.variants import CostLimits

SHOWN, SHOWN_BY_FORECAST, SHOWN_MISSING = 20, 10, 5
"""Rows of the table; ``--json`` has all of them."""


def plan(
    data: Path,
    /,
    *,
    max_latency_ms: Real | None = None,
    max_memory_mb: Real | None = None,
    models: str | None = None,
    attention: str | None = None,
    image_sizes: str | None = None,
    engine: str | None = None,
    task: Literal["classify", "segment"] | None = None,
    threads: int | None = None,
    budget_minutes: Real = 5.0,
    common: Common = Common(),
) -> Answer:
    """List what can meet a limit of latency and memory on this machine.

    Nothing is trained: networks with fresh weights are forecast, and measured as far as the time allows, in PyTorch and
    as bundles in float32 and int8. Quality is not looked at; gossamer compare does that.

    Example: gossamer plan chest/ --max-latency-ms 500 --max-memory-mb 2000
    Example: gossamer plan chest/ --max-latency-ms 20 --models vit_tiny,resnet_18_small --image-sizes 64x64,128x128

    Args:
        data: labelled images, as gossamer train takes them.
        max_latency_ms: of one image, the median; of a volume, all of its windows.
        max_memory_mb: peak of a process that does nothing else, in 10^6 bytes.
        models: presets of gossamer models, with commas; the small ones of the data's task if left out.
        attention: mechanisms, with commas; each network's own, softmax, sequence_norm and kv if left out.
        image_sizes: rows x columns, with commas; the recipe's size, half and twice of it if left out.
        engine: of bundles, onnxruntime or openvino or both with a comma; all that are installed if left out.
        task: classify or segment; what the data are labelled for if left out.
        threads: of the processor; all that this process may use if left out.
        budget_minutes: after which nothing more is measured; with 0 all is forecast.
        common: options of every verb.
    """
    require_training_packages("plan")
    from gossamer.comparison.request import parse_names
    from gossamer.data import open_dataset
    from gossamer.planning.benchmark import installed_engines
    from gossamer.planning.candidates import list_candidates
    from gossamer.planning.feasible import find_feasible

    limits = _limits(max_latency_ms, max_memory_mb)
    if budget_minutes < 0:
        remedy = "use 5, or 0 to forecast alone"
        raise GossamerError(ErrorCode.CONFIG, "--budget-minutes", f"{budget_minutes:g} is less than 0", remedy)
    used = set_torch_threads(threads)
    engines = installed_engines(None if engine is None else parse_names(engine))
    sizes = None
    if image_sizes is not None:
        sizes = [size for text in parse_names(image_sizes) if (size := parse_size(text, "--image-sizes"))]
    dataset = open_dataset(data, seed=0, task=task)
    candidates, refused = list_candidates(
        dataset,
        models=None if models is None else parse_names(models),
        attention=None if attention is None else parse_names(attention),
        image_sizes=sizes,
    )
    stages: list[str] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage not in stages:
            stages.append(stage)
            until = f"until the {budget_minutes:g} minutes are over" if budget_minutes else "none is measured"
            say(f"{stage}: {total} networks and sizes, {until}")
        show(done, total)

    with progress("measuring") as show:
        found = find_feasible(
            candidates,
            limits,
            engines=engines,
            threads=used,
            seconds=60 * budget_minutes,
            on_progress=report,
        )
    nearest = found.nearest
    data_out = {
        "data": dataset.source,
        "threads": used,
        "engines": engines,
        "limits": {"latency_ms": limits.latency_ms, "memory_mb": limits.memory_mb},
        "candidates": found.candidates,
        "measured": found.measured,
        "timed": found.timed,
        "machine_was_busy": found.busy,
        "matrix_macs_per_second": found.rate,
        "rows": [row.to_json() for row in found.rows],
        "nearest": None if found.meeting or nearest is None else nearest.to_json(),
        "refused": refused,
    }
    volumes = any(candidate.network.task == "segment" for candidate in candidates)
    return Answer(data_out, _text(found, limits, refused, used, windows=volumes))


def _limits(latency: float | None, memory: float | None) -> CostLimits:
    from gossamer.variants import CostLimits

    if latency is None and memory is None:
        problem = "wants a limit, and none was given"
        remedy = "give --max-latency-ms, --max-memory-mb or both"
        raise GossamerError(ErrorCode.CONFIG, "gossamer plan", problem, remedy)
    return CostLimits(latency_ms=latency, memory_mb=memory)


def _text(found: FeasibleModels, limits: CostLimits, refused: list[str], threads: int, *, windows: bool) -> Any:
    from rich.console import Group

    asked = [f"{limits.latency_ms:g} ms an image"] if limits.latency_ms is not None else []
    asked += [f"{limits.memory_mb:g} MB"] if limits.memory_mb is not None else []
    certain = [row for row in found.meeting if row.certain]
    forecast = [row for row in found.meeting if not row.certain]
    missing = sorted((row for row in found.rows if row.verdict == "no"), key=lambda row: row.worst_ratio)
    unknown = [row for row in found.rows if row.verdict == "unavailable"]
    engines = sorted({row.engine for row in found.rows} - {"torch"})
    using = f", bundles in {' and '.join(engines)}" if engines else ""
    parts: list[Any] = [f"Limits: {' and '.join(asked)}, {threads} thread{'' if threads == 1 else 's'}{using}", ""]
    if not found.meeting:
        parts += [_nothing(found.nearest, limits), ""]
    sections = (
        ("Meet the limits, measured, larger first:", certain, SHOWN),
        ("Perhaps, by forecast alone, which is often too low; larger first:", forecast, SHOWN_BY_FORECAST),
        ("Do not, nearest first:", missing, SHOWN_MISSING),
    )
    shown = [row for _, rows, most in sections for row in rows[:most]]
    for title, rows, most in sections:
        if rows:
            parts += [title, _table(rows[:most], windows=windows, several=len(engines) > 1), ""]
    parts.append(
        f"{len(found.rows)} rows of {found.candidates} networks and sizes: {len(certain)} meet the limits as measured, "
        f"{len(forecast)} perhaps, by forecast; {len(missing)} do not, {len(unknown)} cannot be told. "
        f"{len(shown)} are shown, --json has all."
    )
    parts.append(
        f"{found.measured} were measured in full and {found.timed} timed in PyTorch alone; a larger --budget-minutes "
        "measures more. Figures with ~ are forecast."
    )
    if found.busy:
        parts.append(
            "The machine was busy while networks were timed: times are upper bounds; plan again when it rests."
        )
    if windows:
        parts.append(
            "Latency is that of all windows of the median case; memory that of one window a call, predict takes more."
        )
    for line in dict.fromkeys([*_reasons(unknown), *refused]):
        parts.append(f"not possible: {line}")
    parts.append(
        "Nothing was trained, and nothing is said about quality: gossamer compare does that, on a few of these."
    )
    return Group(*parts)


def _nothing(nearest: PlanRow | None, limits: CostLimits) -> str:
    from gossamer.profiling.figure import format_quantity

    if nearest is None:
        return "Nothing meets the limits."
    costs = []
    if limits.latency_ms is not None:
        costs.append(format_quantity(nearest.latency.value, "ms"))
    if limits.memory_mb is not None and nearest.memory.value is not None:
        costs.append(f"{nearest.memory.value / 1e6:.0f} MB")
    how = "measured" if nearest.certain else "by forecast"
    return f"Nothing meets the limits. Nearest is {nearest.name}: {', '.join(costs)}, {how}."


def _table(rows: list[PlanRow], *, windows: bool, several: bool) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    headings = ["network", "attention", "size", "windows", "precision", "p50", "p95", "memory"]
    words = [*headings[:3], "precision"]
    for heading in headings:
        if heading != "windows" or windows:
            left = heading in words
            table.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for row in rows:
        candidate = row.screened.candidate
        table.add_row(
            candidate.variant.model,
            candidate.variant.attention or "–",
            "x".join(map(str, candidate.image_size)),
            *([str(candidate.windows)] if windows else []),
            "PyTorch" if row.engine == "torch" else f"{row.precision} {row.engine}" if several else row.precision,
            _figure(row.latency, "ms"),
            _figure(row.latency_p95, "ms"),
            _figure(row.memory, "bytes"),
        )
    return table


def _figure(figure: Any, unit: str) -> str:
    """Return a figure in words; what is modelled is about right."""
    from gossamer.profiling.figure import format_quantity

    if figure.value is None:
        return "–"
    text = f"{figure.value / 1e6:.0f} MB" if unit == "bytes" else format_quantity(figure.value, unit)
    return f"~{text}" if figure.how == "modelled" else text


def _reasons(rows: list[PlanRow]) -> list[str]:
    """Return why networks cannot be had in a precision and engine, for the rows that have been tried."""
    return [
        f"{row.name}: {row.latency.detail}"
        for row in rows
        if row.latency.how == "unavailable" and not row.latency.detail.startswith("not made")
    ]
