"""``gossamer compare``: attention mechanisms on the user's data and computer."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from gossamer.api.environment import require_training_packages
from gossamer.cli.numbers import Whole
from gossamer.cli.output import Common, print_message
from gossamer.summary import Result


@Parameter(name="*")
@dataclass(frozen=True)
class CompareOptions:
    """Options of a comparison. The recipe chooses unset options from the data, the same for all variants.

    Attributes:
        models: Names of presets, separated by commas (default: vit_tiny or transunet_small).
        attention: Attention mechanisms, separated by commas: names, or classes such as ./mine.py:MyConfig; softmax is
            the baseline of the others.
        seeds: Number of trainings of each variant, with the seeds 0, 1, ...
        budget_minutes: Time in minutes to train the slowest variant once; sets the number of epochs of all variants.
        epochs: Number of epochs of every training, in place of a budget.
        image_size: Rows x columns of the networks' input, such as 64x64.
        batch_size: Number of images of a training step.
        precisions: Precisions to measure, separated by commas.
        max_drop: Largest allowed degradation of the metric in int8, 0 or more.
        max_latency_ms: Largest median latency of one image on this computer, for the recommendation.
        max_memory_mb: Largest memory of a process for the recommendation, in MB of 10^6 bytes.
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
) -> Result:
    """Compare attention mechanisms under identical training and recommend one.

    Every network with every mechanism that fits is trained with the same data, order, seeds and epochs, evaluated,
    exported, quantized and measured on this computer. After every stage, OUT holds results.csv, summary.json and
    report.html. The same command resumes a comparison that was stopped.

    Example: gossamer compare chest/ --models vit_tiny --attention softmax,kv --out compared/chest

    Example: gossamer compare chest/ --attention softmax,kv --budget-minutes 20 --plan

    Args:
        data: Labelled images.
        out: Folder of the comparison.
        plan: Show the expected time and memory, and write nothing; a few steps of each variant are timed.
        retry: Repeat failed stages.
        threads: Number of CPU threads (default: all available).
        options: Options of a comparison.
        common: Options of every verb.
    """
    require_training_packages("compare")
    from gossamer.api import compare as api

    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    given["models"] = () if options.models is None else options.models
    if plan:
        return api.plan_comparison(data, threads=threads, progress=True, **given)
    try:
        return api.compare(data, out, retry=retry, threads=threads, progress=True, **given)
    except api.ComparisonInterrupted as stop:
        print_message(f"gossamer: {stop}")
        sys.exit(128 + stop.signal_number)
