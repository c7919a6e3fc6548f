"""``gossamer plan``: networks, image sizes and precisions within a budget, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gossamer.api.environment import require_training_packages
from gossamer.cli.numbers import Real
from gossamer.cli.output import Common
from gossamer.summary import Result


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
) -> Result:
    """List models that fit a latency or memory budget on this machine.

    Nothing is trained: the costs of networks with fresh weights are estimated, and measured as far as the time allows,
    in PyTorch and as bundles in float32 and int8. Quality is not considered; gossamer compare does that.

    Example: gossamer plan chest/ --max-latency-ms 500 --max-memory-mb 2000

    Example: gossamer plan chest/ --max-latency-ms 20 --models vit_tiny,resnet_18_small --image-sizes 64x64,128x128

    Args:
        data: Labelled images.
        max_latency_ms: Largest median latency of one image with all of its windows.
        max_memory_mb: Largest peak memory of a process, in MB of 10^6 bytes.
        models: Names of presets, separated by commas (default: the small ones of the task).
        attention: Attention mechanisms, separated by commas: names, or classes such as ./mine.py:MyConfig (default:
            each network's own, softmax, sequence_norm and kv).
        image_sizes: Rows x columns, separated by commas (default: the recipe's size, half of it and twice it).
        engine: Engines of bundles: onnxruntime, openvino, or both with a comma (default: all that are installed).
        task: Name of the task (default: inferred from the labels).
        threads: Number of CPU threads (default: all available).
        budget_minutes: Time in minutes after which no measurement starts; 0 for estimates only.
        common: Options of every verb.
    """
    require_training_packages("plan")
    from gossamer.api.plan import plan as find_plan

    return find_plan(
        data,
        max_latency_ms=max_latency_ms,
        max_memory_mb=max_memory_mb,
        models=models,
        attention=attention,
        image_sizes=image_sizes,
        engine=engine,
        task=task,
        threads=threads,
        budget_minutes=budget_minutes,
        progress=True,
    )
