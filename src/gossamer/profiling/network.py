"""Cost of a network in PyTorch: one table, each figure with how it was obtained."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.models import Network
from gossamer.profiling.figure import Costs, Figure, peak_figure
from gossamer.profiling.latency import measure_latency
from gossamer.profiling.macs import count_macs
from gossamer.profiling.memory import bare_process_bytes, forecast_memory, measure_peak_memory

MAX_DISAGREEMENT = 0.005
"""Largest allowed relative difference of the two counts of multiply-accumulates."""


def profile_model(
    model: Network,
    *,
    images: Tensor | None = None,
    batch: int = 1,
    seconds: float = 2.0,
    memory: bool = True,
    forecasts: bool = False,
) -> Costs:
    """Return parameters, MACs, exponentials, latency and peak memory of ``model`` at its own image size.

    Args:
        model: Network on the CPU.
        images: Images of the timed call, for networks whose work depends on content (default: ``batch`` black images).
        batch: Number of images in one timed call.
        seconds: Approximate time spent on timing, in seconds.
        memory: Whether to measure memory too, in a fresh process that takes some seconds.
        forecasts: Whether to add a forecast of the memory, which takes another process.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for an operator without a formula, ``E-BUG`` if counted multiply-accumulates
            and those of the closed form differ by more than 0.5 %.
    """
    description = model.config
    threads = torch.get_num_threads()
    shape = (description.in_channels, *description.image_size)
    with model.keep_all_tokens():
        counted = count_macs(model, torch.zeros(1, *shape))
    closed = model.cost()
    check_agreement(model, counted.total, closed.macs)
    images = torch.zeros(batch, *shape) if images is None else images
    batch = len(images)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        latency = measure_latency(lambda: model(images), seconds=seconds)
    model.train(was_training)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = "x".join(str(side) for side in description.image_size)
    profile = {
        "parameters": Figure(parameters, "parameters", "computed", "counted in the network"),
        "weights": Figure(4 * parameters, "bytes", "computed", "parameters in float32"),
        "macs": Figure(
            counted.total, "MACs", "computed", f"operators of one {size} image, attention included, nothing pruned"
        ),
        "macs_closed_form": Figure(closed.macs, "MACs", "computed", "closed form of the network's equations"),
        "exponentials": Figure(closed.exponentials, "exponentials", "computed", "closed form, softmax and kernels"),
        **latency.figures(f"torch float32, batch {batch}, {threads} threads"),
    }
    if memory:
        profile.update(_memory_figures(model, batch, threads))
    if forecasts:
        profile.update(_forecast_figures(model, batch))
    return profile


def check_agreement(model: Network, counted: int, closed: int) -> None:
    """Raise if counted operators and the closed form of a network disagree about its work, with nothing pruned.

    Args:
        model: The network, for the error.
        counted: Multiply-accumulates of the operators.
        closed: Multiply-accumulates in closed form.

    Raises:
        GossamerError: ``E-BUG`` for a difference above 0.5 %.
    """
    difference = counted / closed - 1.0
    if abs(difference) > MAX_DISAGREEMENT:
        problem = (
            f"{counted:,} multiply-accumulates counted, {closed:,} in closed form: {100 * difference:+.2f} %, more "
            f"than the allowed {100 * MAX_DISAGREEMENT:g} %"
        )
        raise GossamerError(ErrorCode.BUG, model.config.name, problem, "one of the two is wrong; please report it")


def _memory_figures(model: Network, batch: int, threads: int) -> Costs:
    peak = measure_peak_memory(model.config, batch=batch, threads=threads)
    process, forward = (None, None) if peak is None else (peak.process_bytes, peak.forward_bytes)
    return {
        "peak_memory": peak_figure(process, f"whole fresh process with torch, its usual allocator, batch {batch}"),
        "forward_memory": peak_figure(forward, f"rise of the same process in a call, batch {batch}"),
    }


def _forecast_figures(model: Network, batch: int) -> Costs:
    names = ("peak_memory_forecast", "forward_memory_forecast")
    forecast, bare = forecast_memory(model.config, batch=batch), bare_process_bytes()
    if forecast is None or bare is None:
        why = "this system does not report memory" if bare is None else "the work depends on the content of the images"
        return dict.fromkeys(names, Figure(None, "bytes", "unavailable", why))
    how = f"from shapes, batch {batch}, for an allocator that returns freed memory; the usual one keeps more"
    values = (forecast.process_bytes(bare), forecast.forward_bytes)
    return {name: Figure(value, "bytes", "modelled", how) for name, value in zip(names, values, strict=True)}
