"""``gossamer.compare``: networks and attention mechanisms, trained under identical conditions and measured."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.api.environment import choose_threads, require_training_packages
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments, parse_size
from gossamer.checks import require
from gossamer.comparison.compare_plan import ComparePlan, read_plan, write_plan
from gossamer.comparison.fingerprint import resume_plan, start_plan
from gossamer.comparison.folder import CompareFolder
from gossamer.comparison.lock import lock_folder
from gossamer.comparison.planner import make_plan
from gossamer.comparison.request import CompareRequest, name_mechanisms, parse_names
from gossamer.comparison.results import CollectedResults, VariantResult
from gossamer.comparison.runner import ComparisonRunner, format_duration
from gossamer.comparison.stages import list_stages
from gossamer.comparison.worker import ComparisonInterrupted, StageProcesses
from gossamer.config import suggest_nearest
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_json
from gossamer.nn.attention import AttentionLike
from gossamer.profiling.figure import format_quantity
from gossamer.progress import Progress
from gossamer.report.comparison_page import write_results
from gossamer.summary import Result, SummaryTable
from gossamer.variants import PRECISIONS, USUAL_MECHANISMS, CostLimits

__all__ = ["ComparisonInterrupted", "ComparisonPlan", "ComparisonResults", "compare", "plan_comparison"]

_STAGE_MODULE = "gossamer.api.comparison_stage"


@dataclass(frozen=True, repr=False)
class ComparisonResults(Result):
    """Results of a comparison.

    Attributes:
        folder: Folder of the comparison.
        results: Results of every variant.
        summary: Content of ``summary.json``, with the recommendation.
    """

    folder: Path
    results: CollectedResults
    summary: Mapping[str, Any]

    @property
    def recommendation(self) -> str:
        """Recommendation in one line."""
        return self.summary["recommendation"]["headline"]

    @property
    def report(self) -> Path:
        """Path of the page."""
        return CompareFolder(self.folder).report_path

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``summary.json``."""
        return dict(self.summary)

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the quality and latency of every variant, and the recommendation."""
        precisions = self.results.plan.precisions
        latencies = [f"latency {name}" if number == 0 else name for number, name in enumerate(precisions)]
        samples = _count(self.results.samples, "sample")
        seeds = _count(len(self.results.plan.training.seeds), "seed")
        table = SummaryTable(
            title=f"{self.results.label} of {samples}, mean of {seeds}",
            headings=("variant", self.results.label, "95 %", *latencies, "state"),
            rows=tuple(self._row(result) for result in self.results.variants),
        )
        answer = (("recommendation", self.recommendation), ("report", str(self.report)))
        return table, SummaryTable(title="", headings=("", ""), rows=answer)

    def _row(self, result: VariantResult) -> tuple[str, ...]:
        quality, interval = result.quality, ("", "")
        if quality is not None:
            bounds = "no interval" if math.isnan(quality.low) else f"{quality.low:.4f} to {quality.high:.4f}"
            interval = (f"{quality.value:.4f}", bounds)
        figures = [result.cost("latency_p50", precision) for precision in self.results.plan.precisions]
        latencies = ["" if each.value is None else format_quantity(each.value, each.unit) for each in figures]
        return (result.variant.name, *interval, *latencies, result.state)


@dataclass(frozen=True, repr=False)
class ComparisonPlan(Result):
    """Plan of a comparison that is not started.

    Attributes:
        plan: Trainings and their expected times.
    """

    plan: ComparePlan

    @property
    def seconds(self) -> float:
        """Expected time of the whole comparison in seconds."""
        return sum(stage.seconds for stage in list_stages(self.plan))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as ``plan.json`` would hold it, with the expected time."""
        return {**self.plan.to_json(), "seconds": self.seconds}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the time and memory of every variant, and the time in all."""
        plan, training = self.plan, self.plan.training
        size = "x".join(str(side) for side in training.image_size)
        settings = f"{_count(training.epochs, 'epoch')} of {size} px in batches of {training.batch_size}"
        rows = []
        for variant in plan.variants:
            found = plan.forecasts[variant.key]
            memory = "unknown" if found.memory_bytes is None else f"{found.memory_bytes / 2**20:.0f} MiB"
            times = (f"{1e3 * found.step_s:.0f} ms", format_duration(found.epoch_s), format_duration(found.train_s))
            rows.append((variant.name, f"{found.parameters:,}", *times, memory))
        table = SummaryTable(
            title=f"{plan.data.source}: {settings}, {_count(plan.request.threads, 'thread')}",
            headings=("variant", "parameters", "step", "epoch", "training", "memory"),
            rows=tuple(rows),
            caption="training: one seed, from start to report; memory: of the training process",
        )
        extra = [name for precision, name in (("float32", "export"), ("int8", "int8")) if precision in plan.precisions]
        trainings = f"{_count(len(plan.trials), 'training')}, {len(training.seeds)} of each variant"
        total = f"about {format_duration(self.seconds)} with {', '.join(extra)} and measuring" if extra else (
            f"about {format_duration(self.seconds)} with measuring"
        )  # fmt: skip
        notes = [*(f"{each.variant.name} is refused: {each.reason}" for each in plan.refused), *plan.notes]
        lines = (("note", note) for note in notes)
        return table, SummaryTable(title="", headings=("", ""), rows=(*lines, (trainings, total)))


@checked_arguments
def compare(
    data: str | Path,
    out: str | Path | None = None,
    *,
    models: str | Sequence[str] = (),
    attention: str | Iterable[AttentionLike] = USUAL_MECHANISMS,
    seeds: int = 3,
    budget_minutes: float | None = None,
    epochs: int | None = None,
    image_size: str | tuple[int, int] | None = None,
    batch_size: int | None = None,
    precisions: str | Sequence[str] = PRECISIONS,
    max_drop: float = 0.005,
    max_latency_ms: float | None = None,
    max_memory_mb: float | None = None,
    retry: bool = False,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> ComparisonResults:
    """Train networks with several attention mechanisms under identical conditions, and recommend one.

    Every network with every mechanism that fits is trained with the same data, order, seeds and epochs, evaluated,
    exported, quantized and measured on this computer. The folder gets ``results.csv``, ``summary.json`` and
    ``report.html`` after every stage. The same call resumes a comparison that was stopped.

    Example:
        >>> found = gossamer.compare("chest/", "compared/chest", attention=("softmax", "kv"))  # doctest: +SKIP
        >>> found.recommendation  # doctest: +SKIP

    Args:
        data: Path of labelled images, in any layout of ``gossamer.open_dataset``.
        out: Folder of the comparison, new or of the same comparison.
        models: Names of presets (default: ``vit_tiny`` or ``transunet_small``).
        attention: Attention mechanisms: names, references such as ``./mine.py:MyConfig``, or configs; ``softmax`` is
            the baseline of the others (default: ``softmax``, ``sequence_norm`` and ``kv``).
        seeds: Number of trainings of each variant, with the seeds 0, 1, ... (default: 3).
        budget_minutes: Time to train the slowest variant once, in minutes; sets the number of epochs of all.
        epochs: Number of epochs of every training; excludes ``budget_minutes`` (default: chosen by the recipe).
        image_size: Rows and columns of the networks' input, in pixels (default: chosen from the data).
        batch_size: Number of images of a training step (default: chosen by the recipe).
        precisions: Precisions to measure, of ``torch``, ``float32`` and ``int8`` (default: all).
        max_drop: Largest allowed degradation of the metric in int8, 0 or more (default: 0.005).
        max_latency_ms: Largest median latency of one image for the recommendation, in milliseconds (default: none).
        max_memory_mb: Largest memory of a process for the recommendation, in MB of 10^6 bytes (default: none).
        retry: Whether failed stages are repeated (default: False).
        threads: Number of CPU threads (default: all available).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Returns:
        Results of every variant, with the recommendation and the path of the page.

    Raises:
        GossamerError: The data or an option cannot be used, or the folder holds something else.
        ComparisonInterrupted: SIGINT or SIGTERM stopped the comparison; the same call resumes it.
    """
    require_training_packages("compare")
    request = _make_request(
        data,
        models=models,
        attention=attention,
        seeds=seeds,
        budget_minutes=budget_minutes,
        epochs=epochs,
        image_size=image_size,
        batch_size=batch_size,
        precisions=precisions,
        max_drop=max_drop,
        max_latency_ms=max_latency_ms,
        max_memory_mb=max_memory_mb,
        threads=threads,
    )
    if out is None:
        problem = "is missing: a comparison keeps its trials in a folder, where it can be resumed"
        raise GossamerError(ErrorCode.CONFIG, "out", problem, "name a folder")
    folder, shown = CompareFolder(Path(out)), choose_progress(progress)
    with lock_folder(folder) as lock:
        plan = _open_plan(request, folder, shown)
        processes = StageProcesses(request.threads, lock)
        runner = ComparisonRunner(
            folder, plan, processes, _STAGE_MODULE, lambda: write_results(folder), progress=shown, retry=retry
        )
        with processes.catch_signals():
            try:
                runner.run()
            except ComparisonInterrupted as stop:
                with contextlib.suppress(GossamerError):
                    write_results(folder)
                raise ComparisonInterrupted(stop.signal_number, plan.command) from stop
        results = write_results(folder)
    return ComparisonResults(folder.path, results, read_json(folder.summary_path))


@checked_arguments
def plan_comparison(data: str | Path, *, progress: bool | Progress | None = None, **options: Any) -> ComparisonPlan:
    """Return what ``compare`` would train, and how long it would take. A few steps of each variant are timed.

    Nothing is written.

    Args:
        data: Path of labelled images, in any layout of ``gossamer.open_dataset``.
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).
        **options: Arguments of ``compare`` from ``models`` to ``max_memory_mb``, and ``threads``.

    Raises:
        GossamerError: The data or an option cannot be used.
    """
    require_training_packages("compare")
    known = [name for name in inspect.signature(_make_request).parameters if name != "data"]
    for name in options:
        require(name in known, name, "is not an option of a comparison", suggest_nearest(name, known))
    return ComparisonPlan(make_plan(_make_request(data, **options), progress=choose_progress(progress)))


@checked_arguments
def _make_request(
    data: str | Path,
    *,
    models: str | Sequence[str] = (),
    attention: str | Iterable[AttentionLike] = USUAL_MECHANISMS,
    seeds: int = 3,
    budget_minutes: float | None = None,
    epochs: int | None = None,
    image_size: str | tuple[int, int] | None = None,
    batch_size: int | None = None,
    precisions: str | Sequence[str] = PRECISIONS,
    max_drop: float = 0.005,
    max_latency_ms: float | None = None,
    max_memory_mb: float | None = None,
    threads: int | None = None,
) -> CompareRequest:
    return CompareRequest(
        data=str(data),
        models=parse_names(models, "models") if isinstance(models, str) else tuple(models),
        attention=name_mechanisms(attention),
        image_size=parse_size(image_size),
        precisions=parse_names(precisions) if isinstance(precisions, str) else tuple(precisions),  # type: ignore[arg-type]
        threads=choose_threads(threads),
        limits=CostLimits(latency_ms=max_latency_ms, memory_mb=max_memory_mb),
        seeds=seeds,
        budget_minutes=budget_minutes,
        epochs=epochs,
        batch_size=batch_size,
        max_drop=max_drop,
    )


def _open_plan(request: CompareRequest, folder: CompareFolder, progress: Progress) -> ComparePlan:
    """Return the plan in the folder: a new one, or the existing one with the limits of the request."""
    command = request.to_command(folder.path)
    if not folder.plan_path.exists():
        plan = make_plan(request, command=command, progress=progress)
        progress.show_message("reading all images to fingerprint the data")
        write_plan(folder, start_plan(plan))
    else:
        write_plan(folder, resume_plan(read_plan(folder.plan_path), request, command, folder.path))
        progress.show_message(f"resuming {folder.path}")
    plan = read_plan(folder.plan_path)
    for refused in plan.refused:
        progress.show_message(f"note: {refused.variant.name} is refused: {refused.reason}")
    for note in plan.notes:
        progress.show_message(f"note: {note}")
    return plan


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
