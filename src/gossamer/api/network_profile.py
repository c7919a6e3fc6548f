"""Profile of a network in PyTorch, for presets and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gossamer.api.environment import torch_threads
from gossamer.arguments import parse_size
from gossamer.checkpoint import load_model
from gossamer.nn.models import create_model
from gossamer.profiling.figure import Costs
from gossamer.profiling.growth import Growth
from gossamer.profiling.network import profile_model
from gossamer.profiling.scaling import measure_growth, resize_models
from gossamer.profiling.training_step import training_figures


def profile_network(
    model: str,
    preset: Mapping[str, Any],
    *,
    batch: int,
    growth: str | Sequence[str | tuple[int, int]] | None,
    training: bool,
    threads: int | None,
) -> tuple[int, Costs, Growth | None]:
    """Return the number of threads used, the figures of a network, and its growth.

    Args:
        model: Preset, or folder of a run.
        preset: Options of a preset, see ``gossamer.create_model``.
        batch: Number of images in one timed call.
        growth: Image sizes at which the cost is measured; None for no growth.
        training: Whether to measure a training step too.
        threads: Number of CPU threads; None for all available.

    Raises:
        GossamerError: The model or the sizes cannot be used.
    """
    if Path(model).is_dir():
        network = load_model(Path(model))
    else:
        network = create_model(model, **{**preset, "image_size": parse_size(preset.get("image_size"))})
    parts = growth.split(",") if isinstance(growth, str) else growth or ()
    sizes = [size for part in parts if part and (size := parse_size(part, "growth")) is not None]
    if growth is not None:  # before anything is measured, which takes a minute
        resize_models(network.config, sizes)
    with torch_threads(threads) as used:
        cost = profile_model(network, batch=batch, forecasts=True)
        if training:
            cost |= training_figures(network.config, batch=batch, threads=used)
        return used, cost, None if growth is None else measure_growth(network.config, sizes, batch=batch)
