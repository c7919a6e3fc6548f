"""What a network costs: one table, each figure with how it was obtained."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.measure.figure import Figure
from gossamer.measure.latency import time_calls
from gossamer.measure.macs import count_macs
from gossamer.measure.memory import measure_peak_memory
from gossamer.nn.models import Network

Profile = dict[str, Figure]


def profile_model(
    model: Network, *, images: Tensor | None = None, batch: int = 1, seconds: float = 2.0, memory: bool = True
) -> Profile:
    """Return parameters, MACs, exponentials, latency and peak memory of ``model`` at its own image size.

    Args:
        model: the network, on the CPU.
        images: what to time, for networks whose work depends on what they see; ``batch`` black images if left out.
        batch: images of one timed call.
        seconds: about how long to time.
        memory: whether to measure memory too, which takes a fresh process and some seconds.
    """
    description = model.config
    threads = torch.get_num_threads()
    shape = (description.in_channels, *description.image_size)
    counted = count_macs(model, torch.zeros(1, *shape))
    closed = model.cost()
    images = torch.zeros(batch, *shape) if images is None else images
    batch = len(images)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        latency = time_calls(lambda: model(images), seconds=seconds)
    model.train(was_training)
    how = f"wall clock, torch float32, batch {batch}, {threads} threads, {latency.calls} calls after warm-up"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = "x".join(str(side) for side in description.image_size)
    profile = {
        "parameters": Figure(parameters, "parameters", "computed", "counted in the network"),
        "weights": Figure(4 * parameters, "bytes", "computed", "parameters in float32"),
        "macs": Figure(counted.total, "MACs", "computed", f"operators of one {rows} image, attention included"),
        "macs_closed_form": Figure(closed.macs, "MACs", "computed", "closed form of the network's equations"),
        "exponentials": Figure(closed.exponentials, "exponentials", "computed", "closed form, softmax and kernels"),
        "latency_p50": Figure(latency.p50_ms, "ms", "measured", how),
        "latency_p95": Figure(latency.p95_ms, "ms", "measured", how),
    }
    if memory:
        profile.update(_memory_figures(model, batch, threads))
    return profile


def _memory_figures(model: Network, batch: int, threads: int) -> Profile:
    peak = measure_peak_memory(model.config, batch=batch, threads=threads)
    if peak is None:
        missing = Figure(None, "bytes", "unavailable", "this system does not report the peak of a process")
        return {"peak_memory": missing, "forward_memory": missing}
    return {
        "peak_memory": Figure(
            peak.process_bytes, "bytes", "measured", f"whole fresh process with torch, batch {batch}"
        ),
        "forward_memory": Figure(
            peak.forward_bytes, "bytes", "measured", f"rise of the same process in a call, batch {batch}"
        ),
    }
