"""Measurement of the growth of a network's cost: the same network over a range of image sizes, timed in turns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import Attention
from gossamer.nn.models import NetworkConfig
from gossamer.profiling.figure import Figure
from gossamer.profiling.growth import Growth, SizeCost, fit_exponent
from gossamer.profiling.latency import measure_latencies, measure_latency
from gossamer.profiling.machine import available_memory_bytes
from gossamer.profiling.memory import MemoryForecast, forecast_memory

USABLE_MEMORY = 0.7
"""Largest share of the free memory that a forecast may need."""
MAX_CALL_SECONDS = 20.0
"""Sizes with a longer forecast call are not timed."""
MIN_ROUNDS, MAX_ROUNDS = 3, 100


def resize_models(model: NetworkConfig, sizes: Sequence[tuple[int, int]]) -> list[NetworkConfig]:
    """Return ``model`` at each of ``sizes``, in the order of their area; nothing is built.

    Args:
        model: Config of the network; its own image size is ignored.
        sizes: Rows and columns of each image, two or more of different area.

    Raises:
        GossamerError: ``E-CONFIG`` for sizes that the network does not accept or that have the same area.
    """
    ordered = sorted({(rows, columns) for rows, columns in sizes}, key=math.prod)
    if len({math.prod(size) for size in ordered}) < 2:
        problem = f"{len(ordered)} size without another of different area cannot show growth"
        raise GossamerError(ErrorCode.CONFIG, "growth", problem, "give two or more, such as 128x128,256x256")
    resized = []
    for size in ordered:
        try:
            resized.append(dataclasses.replace(model, image_size=size))
        except GossamerError as error:
            remedy = error.remedy + (", or choose another patch_size" if hasattr(model, "patch_size") else "")
            raise GossamerError(error.code, "growth", error.problem, remedy) from error
    return resized


def measure_growth(
    model: NetworkConfig,
    sizes: Sequence[tuple[int, int]],
    *,
    batch: int = 1,
    seconds: float = 10.0,
    max_call_seconds: float = MAX_CALL_SECONDS,
    memory_limit: int | None = None,
) -> Growth:
    """Return the cost of ``model`` at each of ``sizes``, built anew for each, all timed in turns.

    A size is not run if its call is forecast to take longer than ``max_call_seconds``, at the rate of the next smaller
    size, or to need more memory than ``memory_limit``; its figures state the reason.

    Args:
        model: Config of the network; its own image size is ignored.
        sizes: Rows and columns of each image, two or more of different area.
        batch: Number of images in one timed call.
        seconds: Approximate time spent on timing all sizes together, in seconds.
        max_call_seconds: Longest call that is timed, in seconds.
        memory_limit: Memory that may be used, in bytes (default: 70 % of the free memory).

    Raises:
        GossamerError: ``E-CONFIG`` for sizes that the network does not accept or that have the same area.
    """
    models = resize_models(model, sizes)
    if memory_limit is None:
        free = available_memory_bytes()
        memory_limit = None if free is None else int(USABLE_MEMORY * free)
    macs = [_count_closed_form_macs(each) for each in models]
    forecasts = [forecast_memory(each, batch=batch) for each in models]
    calls, reasons = _choose_calls(models, macs, forecasts, batch, max_call_seconds, memory_limit)
    latencies = _time_calls(models, calls, reasons, batch, seconds)
    found = tuple(
        SizeCost(each.image_size, _count_tokens(each), _macs_figure(count), *_memory_figures(forecast, batch), latency)
        for each, count, forecast, latency in zip(models, macs, forecasts, latencies, strict=True)
    )
    return Growth(
        found,
        fit_exponent([(size.pixels, size.macs.value) for size in found], "computed"),
        fit_exponent([(size.pixels, size.tensors.value) for size in found], "modelled"),
        fit_exponent([(size.pixels, size.latency.value) for size in found], "measured"),
    )


def _choose_calls(
    models: Sequence[NetworkConfig],
    macs: Sequence[int],
    forecasts: Sequence[MemoryForecast | None],
    batch: int,
    max_call_seconds: float,
    memory_limit: int | None,
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Return the calls of the sizes that can be run, and why the others cannot. The smallest sizes are tried first."""
    calls: dict[str, Callable[[], object]] = {}
    reasons: dict[str, str] = {}
    last: tuple[float, int] | None = None  # seconds and work of a call of the next smaller size
    used = 0
    for each, work, forecast in zip(models, macs, forecasts, strict=True):
        name = _format_size(each)
        if forecast is None:
            reasons[name] = "its memory could not be forecast"
        elif memory_limit is not None and used + forecast.weights + forecast.forward_bytes > memory_limit:
            needed = (used + forecast.weights + forecast.forward_bytes) / 2**30
            reasons[name] = f"forecast to need {needed:.1f} GiB, and {memory_limit / 2**30:.1f} GiB may be used"
        elif last is not None and (expected := last[0] * work / last[1]) > max_call_seconds:
            reasons[name] = f"a call is forecast to take {expected:.0f} s, more than {max_call_seconds:g} s"
        else:
            used += forecast.weights + forecast.images
            calls[name] = _make_call(each, batch)
            last = measure_latency(calls[name], min_calls=1, max_calls=1, warm_up=1).p50_ms / 1e3, work
    return calls, reasons


def _time_calls(
    models: Sequence[NetworkConfig],
    calls: dict[str, Callable[[], object]],
    reasons: dict[str, str],
    batch: int,
    seconds: float,
) -> list[Figure]:
    """Return the latency of each size, timed in turns, or the reason why it was not run."""
    with torch.inference_mode():
        times = measure_latencies(calls, seconds=seconds, min_rounds=MIN_ROUNDS, max_rounds=MAX_ROUNDS, warm_up=1)
    figures = []
    for name in map(_format_size, models):
        if name in reasons:
            figures.append(Figure(None, "ms", "unavailable", f"not run: {reasons[name]}"))
            continue
        detail = (
            f"median of {times[name].calls} calls in turns with the other sizes, torch float32, batch {batch}, "
            f"{torch.get_num_threads()} threads{times[name].remark}"
        )
        figures.append(Figure(times[name].p50_ms, "ms", "measured", detail))
    return figures


def _make_call(model: NetworkConfig, batch: int) -> Callable[[], object]:
    network = model.build().eval()
    images = torch.zeros(batch, model.in_channels, *model.image_size)

    def call() -> object:
        with torch.inference_mode():
            return network(images)

    return call


def _count_closed_form_macs(model: NetworkConfig) -> int:
    with torch.device("meta"):
        return model.build().cost().macs


def _count_tokens(model: NetworkConfig) -> int | None:
    """Return the largest number of tokens that an attention layer sees; None without attention."""
    seen: list[int] = []

    def note_tokens(tokens: Tensor, *_: Any, **__: Any) -> Tensor:
        seen.append(tokens.shape[1])
        return tokens

    with torch.device("meta"), torch.no_grad():
        network = model.build().eval()
        for module in network.modules():
            if isinstance(module, Attention):
                module.forward = note_tokens  # the result of attention has the shape of its tokens
        network(torch.zeros(1, model.in_channels, *model.image_size))
    return max(seen, default=None)


def _format_size(model: NetworkConfig) -> str:
    return "x".join(str(side) for side in model.image_size)


def _macs_figure(count: int) -> Figure:
    return Figure(count, "MACs", "computed", "closed form of the network's equations, one image")


def _memory_figures(forecast: MemoryForecast | None, batch: int) -> tuple[Figure, Figure]:
    """Return the memory of the tensors of a call, and the rise of the process."""
    if forecast is None:
        unknown = Figure(None, "bytes", "unavailable", "the work depends on the content of the images")
        return unknown, unknown
    how = f"from shapes, batch {batch}"
    return (
        Figure(forecast.activations, "bytes", "modelled", f"tensors and workspaces at once in a call, {how}"),
        Figure(forecast.forward_bytes, "bytes", "modelled", f"rise of the process in a call, {how}"),
    )
