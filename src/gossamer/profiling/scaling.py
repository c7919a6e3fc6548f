"""How the cost of a network grows with the image: the same network over a range of sizes, with fitted exponents.

An exponent is the slope of the logarithm of a cost against the logarithm of the number of pixels: 1 where the cost
follows the pixels, 2 where every pixel meets every other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import Attention
from gossamer.nn.models import NetworkConfig
from gossamer.profiling.exponent import loglog_slope
from gossamer.profiling.figure import Figure
from gossamer.profiling.latency import measure_latencies, measure_latency
from gossamer.profiling.machine import available_memory_bytes
from gossamer.profiling.memory import MemoryForecast, forecast_memory

USABLE = 0.7
"""Share of the free memory that a forecast may ask for."""
SECONDS_A_CALL = 20.0
"""Sizes whose call is forecast to take longer are not timed."""
MIN_ROUNDS, MAX_ROUNDS = 3, 100
OPTION = "--growth"
"""Where sizes are given."""


@dataclass(frozen=True)
class SizeCost:
    """What one image of one size costs.

    Attributes:
        image_size: ``(rows, columns)``.
        tokens: the largest number of tokens that an attention of the network sees; None without attention.
        macs: closed form.
        tensors: forecast of what tensors and workspaces take at once in a call.
        memory: forecast rise of a process in a call: the tensors, and what libraries take at any size.
        latency: median of a call.
    """

    image_size: tuple[int, int]
    tokens: int | None
    macs: Figure
    tensors: Figure
    memory: Figure
    latency: Figure

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return math.prod(self.image_size)

    def to_json(self) -> dict[str, Any]:
        """Return the costs as data."""
        figures = {name: getattr(self, name).to_json() for name in ("macs", "tensors", "memory", "latency")}
        return {"image_size": list(self.image_size), "tokens": self.tokens, **figures}


@dataclass(frozen=True)
class Growth:
    """Costs over image sizes, smallest first.

    Attributes:
        sizes: one entry a size.
        macs_exponent: of the multiply-accumulates, against pixels.
        memory_exponent: of the forecast memory of tensors alone: what libraries take does not grow.
        latency_exponent: of the measured time.
    """

    sizes: tuple[SizeCost, ...]
    macs_exponent: Figure
    memory_exponent: Figure
    latency_exponent: Figure

    def to_json(self) -> dict[str, Any]:
        """Return the growth as data."""
        exponents = {name: getattr(self, f"{name}_exponent").to_json() for name in ("macs", "memory", "latency")}
        return {"sizes": [size.to_json() for size in self.sizes], "exponents": exponents}


def resize_models(model: NetworkConfig, sizes: Sequence[tuple[int, int]]) -> list[NetworkConfig]:
    """Return ``model`` at each of ``sizes``, those of least area first; nothing is built.

    Args:
        model: the network; its own image size does not matter.
        sizes: ``(rows, columns)`` of each image, two or more of different area.

    Raises:
        GossamerError: ``E-CONFIG``, for sizes that the network does not take or that do not differ in area.
    """
    ordered = sorted({(rows, columns) for rows, columns in sizes}, key=math.prod)
    if len({math.prod(size) for size in ordered}) < 2:
        problem = f"{len(ordered)} size without another of different area cannot show growth"
        raise GossamerError(ErrorCode.CONFIG, OPTION, problem, "give two or more, such as 128x128,256x256")
    found = []
    for size in ordered:
        try:
            found.append(dataclasses.replace(model, image_size=size))
        except GossamerError as error:
            remedy = error.remedy + (", or choose another --patch-size" if hasattr(model, "patch_size") else "")
            raise GossamerError(error.code, OPTION, error.problem, remedy) from error
    return found


def measure_growth(
    model: NetworkConfig,
    sizes: Sequence[tuple[int, int]],
    *,
    batch: int = 1,
    seconds: float = 10.0,
    seconds_a_call: float = SECONDS_A_CALL,
    memory_limit: int | None = None,
) -> Growth:
    """Return what ``model`` costs at each of ``sizes``, built anew for each, all timed in turns.

    A size that is forecast to take longer than ``seconds_a_call``, at the rate of the sizes below it, or more memory
    than ``memory_limit``, is not run; its figures say so.

    Args:
        model: the network; its own image size does not matter.
        sizes: ``(rows, columns)`` of each image, two or more of different area.
        batch: images of one timed call.
        seconds: about how long to time all sizes together.
        seconds_a_call: the longest call that is timed.
        memory_limit: bytes; the usable part of what is free if left out.

    Raises:
        GossamerError: ``E-CONFIG``, for sizes that the network does not take or that do not differ in area.
    """
    models = resize_models(model, sizes)
    if memory_limit is None:
        free = available_memory_bytes()
        memory_limit = None if free is None else int(USABLE * free)
    macs = [_closed_form(each) for each in models]
    forecasts = [forecast_memory(each, batch=batch) for each in models]
    latencies = _time(models, macs, forecasts, batch, seconds, seconds_a_call, memory_limit)
    found = tuple(
        SizeCost(each.image_size, _tokens(each), _macs_figure(count), *_memory_figures(forecast, batch), latency)
        for each, count, forecast, latency in zip(models, macs, forecasts, latencies, strict=True)
    )
    return Growth(
        found,
        fit_exponent([(size.pixels, size.macs.value) for size in found], "computed"),
        fit_exponent(
            [(size.pixels, size.tensors.value) for size in found],
            "modelled",
        ),
        fit_exponent([(size.pixels, size.latency.value) for size in found], "measured"),
    )


def fit_exponent(points: Sequence[tuple[int, float | None]], how: Any) -> Figure:
    """Return the slope of log cost against log pixels by least squares, over the points that have a cost."""
    known = [(pixels, cost) for pixels, cost in points if cost]
    if len({pixels for pixels, _ in known}) < 2:
        return Figure(None, "", "unavailable", "fewer than two sizes have a cost")
    slope = loglog_slope(*zip(*known, strict=True))
    detail = f"cost ~ pixels^{slope:.2f}, least squares of the logarithms over {len(known)} sizes"
    return Figure(slope, "", how, detail)


def _time(
    models: Sequence[NetworkConfig],
    macs: Sequence[int],
    forecasts: Sequence[MemoryForecast | None],
    batch: int,
    seconds: float,
    seconds_a_call: float,
    memory_limit: int | None,
) -> list[Figure]:
    """Return the latency of each size, or why there is none. Sizes are tried from the smallest up."""
    calls: dict[str, Callable[[], object]] = {}
    reasons: dict[str, str] = {}
    last: tuple[float, int] | None = None  # seconds and work of a call of the size below
    held = 0
    for each, work, forecast in zip(models, macs, forecasts, strict=True):
        name = _name(each)
        if forecast is None:
            reasons[name] = "its memory could not be forecast"
        elif memory_limit is not None and held + forecast.weights + forecast.forward_bytes > memory_limit:
            needed = (held + forecast.weights + forecast.forward_bytes) / 2**30
            reasons[name] = f"forecast to need {needed:.1f} GiB, {memory_limit / 2**30:.1f} GiB may be used"
        elif last is not None and (expected := last[0] * work / last[1]) > seconds_a_call:
            reasons[name] = f"a call is forecast to take {expected:.0f} s, more than {seconds_a_call:g} s"
        else:
            held += forecast.weights + forecast.images
            calls[name] = _call(each, batch)
            last = measure_latency(calls[name], min_calls=1, max_calls=1, warm_up=1).p50_ms / 1e3, work
    with torch.inference_mode():
        times = measure_latencies(calls, seconds=seconds, min_rounds=MIN_ROUNDS, max_rounds=MAX_ROUNDS, warm_up=1)
    figures = []
    for each in models:
        name = _name(each)
        if name in reasons:
            figures.append(Figure(None, "ms", "unavailable", f"not run: {reasons[name]}"))
            continue
        detail = (
            f"median of {times[name].calls} calls in turns with the other sizes, torch float32, batch {batch}, "
            f"{torch.get_num_threads()} threads{times[name].remark}"
        )
        figures.append(Figure(times[name].p50_ms, "ms", "measured", detail))
    return figures


def _call(model: NetworkConfig, batch: int) -> Callable[[], object]:
    network = model.build().eval()
    images = torch.zeros(batch, model.in_channels, *model.image_size)

    def call() -> object:
        with torch.inference_mode():
            return network(images)

    return call


def _closed_form(model: NetworkConfig) -> int:
    with torch.device("meta"):
        return model.build().cost().macs


def _tokens(model: NetworkConfig) -> int | None:
    seen: list[int] = []

    def note(tokens: Tensor, *_: Any, **__: Any) -> Tensor:
        seen.append(tokens.shape[1])
        return tokens

    with torch.device("meta"), torch.no_grad():
        network = model.build().eval()
        for module in network.modules():
            if isinstance(module, Attention):
                module.forward = note  # what attention computes has the shape of its tokens
        network(torch.zeros(1, model.in_channels, *model.image_size))
    return max(seen, default=None)


def _name(model: NetworkConfig) -> str:
    return "x".join(str(side) for side in model.image_size)


def _macs_figure(count: int) -> Figure:
    return Figure(count, "MACs", "computed", "closed form of the network's equations, one image")


def _memory_figures(forecast: MemoryForecast | None, batch: int) -> tuple[Figure, Figure]:
    """Return what the tensors of a call take, and by how much the process rises."""
    if forecast is None:
        unknown = Figure(None, "bytes", "unavailable", "the work depends on the contents of the images")
        return unknown, unknown
    how = f"from shapes, batch {batch}"
    return (
        Figure(forecast.activations, "bytes", "modelled", f"tensors and workspaces at once in a call, {how}"),
        Figure(forecast.forward_bytes, "bytes", "modelled", f"rise of a process in a call, {how}"),
    )
