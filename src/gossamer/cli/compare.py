"""``gossamer compare``: which light transformer for my data and my machine?"""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from gossamer.api.environment import require_training_packages, set_torch_threads
from gossamer.cli.numbers import Whole
from gossamer.cli.output import Answer, Common, parse_size, say
from gossamer.errors import ErrorCode, GossamerError

if TYPE_CHECKING:
    from gossamer.comparison.folder import CompareFolder
    from gossamer.comparison.plan_file import ComparePlan
    from gossamer.comparison.request import CompareRequest
    from gossamer.comparison.results import CollectedResults


@Parameter(name="*")
@dataclass(frozen=True)
class CompareOptions:
    """What may be chosen; whatever is left out, the recipe chooses from the data, for all variants alike.

    Attributes:
        models: presets of gossamer models, with commas; vit_tiny or transunet_small if left out.
        attention: mechanisms of gossamer models, with commas; softmax is the baseline that others are compared with.
        seeds: trainings of each variant, with the seeds 0, 1, ...
        budget_minutes: for the training of the slowest variant; it is turned into epochs, the same for all, beforehand.
        epochs: of every training, in the place of a budget.
        image_size: rows x columns of the networks' input, such as 64x64.
        batch_size: images of a step.
        precisions: of torch, float32 and int8, with commas: in which variants are measured.
        max_drop: of the metric that int8 may cost.
        max_latency_ms: that one image may take on this machine, for the recommendation.
        max_memory_mb: that a process may take, for the recommendation.
    """

    models: str | None = None
    attention: str = "softmax,sequence_norm,kv"
    seeds: Whole = 3
    budget_minutes: float | None = None
    epochs: Whole | None = None
    image_size: str | None = None
    batch_size: Whole | None = None
    precisions: str = "torch,float32,int8"
    max_drop: float = 0.005
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None

    def asked(self, data: Path, threads: int) -> CompareRequest:
        """Return the options as a comparison takes them."""
        from gossamer.comparison.request import CompareRequest, parse_names
        from gossamer.variants import CostLimits

        return CompareRequest(
            data=str(data),
            models=() if self.models is None else parse_names(self.models, "--models"),
            attention=parse_names(self.attention),
            seeds=self.seeds,
            epochs=self.epochs,
            budget_minutes=self.budget_minutes,
            image_size=parse_size(self.image_size),
            batch_size=self.batch_size,
            precisions=parse_names(self.precisions),  # type: ignore[arg-type]  # it says itself what it does not know
            max_drop=self.max_drop,
            threads=threads,
            limits=CostLimits(latency_ms=self.max_latency_ms, memory_mb=self.max_memory_mb),
        )


def compare(
    data: Path,
    /,
    *,
    out: Path | None = None,
    plan: bool = False,
    retry: bool = False,
    threads: Whole | None = None,
    options: CompareOptions = CompareOptions(),
    common: Common = Common(),
) -> Answer:
    """Train networks with several mechanisms alike, measure them side by side, and say which to take.

    Every network with every mechanism that fits is trained with the same data, order, seeds and epochs, evaluated,
    exported, quantized and measured on this machine. OUT gets results.csv, summary.json and report.html after every
    training. The same command goes on where it was stopped.

    Example: gossamer compare chest/ --models vit_tiny --attention softmax,sequence_norm,kv --out compared/chest
    Example: gossamer compare chest/ --attention softmax,kv --budget-minutes 20 --plan

    Args:
        data: labelled images.
        out: folder of the comparison.
        plan: say what it would take, and write nothing; a few steps of each variant are timed.
        retry: try again what failed.
        threads: of the processor; all that this process may use if left out.
        options: choices.
        common: options of every verb.
    """
    require_training_packages("compare")
    asked = options.asked(data, set_torch_threads(threads))
    if plan:
        from gossamer.comparison.plan import make_plan

        made, _ = make_plan(asked, on_stage=say)
        return Answer(_plan_data(made), _plan_table(made))
    if out is None:
        problem = "is missing: a comparison keeps its trials in a folder, where it can go on"
        raise GossamerError(ErrorCode.CONFIG, "--out", problem, "name a folder, or give --plan to look only")
    return _run(asked, out, retry=retry)


def _run(asked: CompareRequest, out: Path, *, retry: bool) -> Answer:
    from gossamer.comparison.folder import CompareFolder
    from gossamer.comparison.run import ComparisonRunner
    from gossamer.comparison.worker import StageProcesses, Stopped, lock_folder
    from gossamer.report.comparison_page import write_results

    folder = CompareFolder(out)
    with lock_folder(folder) as lock:
        plan = _plan(asked, folder)
        children = StageProcesses(asked.threads, lock)

        def show() -> None:
            write_results(folder)

        runner = ComparisonRunner(folder, plan, asked.data, children, on_stage=say, on_trial=show, retry=retry)
        with children.catching():
            try:
                runner.run()
            except Stopped as stop:
                with contextlib.suppress(GossamerError):
                    write_results(folder)
                say(f"gossamer: stopped by {stop}; go on with: {plan.command}")
                sys.exit(128 + stop.number)
        results = write_results(folder)
    summary = json.loads(folder.summary.read_text())
    return Answer(summary, _results_table(results, summary["recommendation"]["headline"], folder))


def _plan(asked: CompareRequest, folder: CompareFolder) -> ComparePlan:
    """Return the plan of the folder, which is made where there is none and held against what is asked where there is.

    CostLimits may change; they decide what is recommended.
    """
    from gossamer.comparison.plan import make_plan, resume_plan, start_plan
    from gossamer.comparison.plan_file import read_plan, write_plan

    if not folder.plan.exists():
        plan, _ = make_plan(asked, command=_command(), on_stage=say)
        say("reading all images once, to know them again")
        write_plan(folder, start_plan(plan))
    else:
        plan = read_plan(folder.plan)
        write_plan(folder, resume_plan(plan, asked, _command(), folder.plan))
        say(f"going on with {folder.path}")
    plan = read_plan(folder.plan)
    for refused in plan.refused:
        say(f"note: {refused.variant.name} is left out: {refused.reason}")
    for note in plan.options["notes"]:
        say(f"note: {note}")
    return plan


def _results_table(results: CollectedResults, headline: str, folder: CompareFolder) -> Any:
    """Return the variants with how good they are and what they cost, and the recommendation."""
    from rich.console import Group
    from rich.table import Table

    from gossamer.report.classification_page import format_quantity

    table = Table(box=None, pad_edge=False, title_justify="left")
    precisions = results.plan.precisions
    samples, seeds = _count(results.samples, "sample"), _count(len(results.plan.seeds), "seed")
    table.title = f"{results.label} of {samples}, mean of {seeds}"
    latencies = [f"latency {precision}" if k == 0 else precision for k, precision in enumerate(precisions)]
    for heading in ("variant", results.label, "95 %", *latencies, "state"):
        table.add_column(heading, justify="left" if heading in ("variant", "state") else "right")
    for result in results.variants:
        quality = result.quality
        value = ("", "")
        if quality is not None:
            known = not math.isnan(quality.low)
            value = (f"{quality.value:.4f}", f"{quality.low:.4f} to {quality.high:.4f}" if known else "no interval")
        figures = [result.cost("latency_p50", precision) for precision in precisions]
        latencies = [
            "" if figure is None or figure.value is None else format_quantity(figure.value, figure.unit)
            for figure in figures
        ]
        table.add_row(result.variant.name, *value, *latencies, result.state)
    return Group(table, headline, f"report: {folder.report}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _command() -> str:
    return shlex.join(["gossamer", *(word for word in sys.argv[1:] if word not in ("--json", "--debug", "--retry"))])


def _plan_data(plan: ComparePlan) -> dict[str, Any]:
    from gossamer.comparison.plan import list_stages

    return {**plan.to_json(), "seconds": sum(stage.seconds for stage in list_stages(plan))}


def _plan_table(plan: ComparePlan) -> Any:
    """Return what the comparison would take, variant by variant, and in all."""
    from rich.console import Group
    from rich.table import Table

    from gossamer.comparison.plan import list_stages
    from gossamer.comparison.run import format_duration

    options = plan.options
    table = Table(box=None, pad_edge=False, title_justify="left", caption_justify="left")
    size = "x".join(str(side) for side in options["image_size"])
    table.title = (
        f"{plan.data}: {_count(plan.epochs, 'epoch')} of {size} px in batches of {options['batch_size']}, "
        f"{_count(plan.threads, 'thread')}"
    )
    table.caption = "training: of one seed, from its start to its report; memory: of that process"
    for heading in ("variant", "parameters", "step", "epoch", "training", "memory"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for variant in plan.variants:
        found = options["forecast"][variant.key]
        memory = "unknown" if found["memory_bytes"] is None else f"{found['memory_bytes'] / 2**20:.0f} MiB"
        table.add_row(
            variant.name,
            f"{found['parameters']:,}",
            f"{1e3 * found['step_s']:.0f} ms",
            format_duration(found["epoch_s"]),
            format_duration(found["train_s"]),
            memory,
        )
    left_out = [f"left out: {refused.variant.name}: {refused.reason}" for refused in plan.refused]
    total = format_duration(sum(stage.seconds for stage in list_stages(plan)))
    count = f"{_count(len(plan.trials), 'training')}, {len(plan.seeds)} of each variant"
    made = [what for precision, what in (("float32", "export"), ("int8", "int8")) if precision in plan.precisions]
    also = f"{', '.join(made)} and measuring" if made else "measuring"
    return Group(table, *left_out, *options["notes"], f"{count}: about {total} with {also}")
