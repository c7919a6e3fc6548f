"""Time and peak memory of a training step, in a fresh process that does nothing else.

A step is the work of training on one batch in float32: forward pass, loss, backward pass and AdamW, whose moments exist
when the clock starts. The loss is cross-entropy with random labels, with a term for each further head of the network.
Reading and augmenting images are not included. Run as a module, this file is that process: it reads a config from
standard input and writes its measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gossamer import config
from gossamer.nn.models import AuxiliaryHead, Network, NetworkConfig, config_from_json
from gossamer.profiling.figure import Figure, peak_figure
from gossamer.profiling.fresh_process import answer_request, ask_process
from gossamer.profiling.latency import measure_latency
from gossamer.profiling.machine import process_memory, reset_peak_memory
from gossamer.profiling.training_memory import forecast_training_memory

MIN_STEPS, MAX_STEPS = 3, 50


@dataclass(frozen=True)
class TrainingStepCost:
    """Cost of a training step.

    Attributes:
        seconds_p50: Median time of a step, in seconds.
        steps: Number of timed steps, after one that is not timed.
        process_bytes: Peak memory of the whole process; None if the system does not report it.
        step_bytes: Rise of the peak above the memory before the network was built; None if it is not reported.
    """

    seconds_p50: float
    steps: int
    process_bytes: int | None
    step_bytes: int | None


def measure_training_step(model: NetworkConfig, *, batch: int, threads: int, seconds: float = 5.0) -> TrainingStepCost:
    """Return the time and peak memory of a training step of ``model``.

    Args:
        model: Config of the network.
        batch: Number of images in one step.
        threads: Number of threads of torch in the process.
        seconds: Approximate time spent on timing, in seconds.
    """
    request = {"model": config.to_json(model), "batch": batch, "threads": threads, "seconds": seconds}
    return TrainingStepCost(**ask_process("gossamer.profiling.training_step", request, threads=threads))


def training_figures(model: NetworkConfig, *, batch: int, threads: int, seconds: float = 5.0) -> dict[str, Figure]:
    """Return the cost of a training step of ``model``, with the forecast of its memory next to the measured one.

    Args:
        model: Config of the network.
        batch: Number of images in one step.
        threads: Number of threads of torch in the process.
        seconds: Approximate time spent on timing, in seconds.
    """
    step = measure_training_step(model, batch=batch, threads=threads, seconds=seconds)
    where = f"batch {batch}, {threads} threads"
    how = f"forward, loss, backward and AdamW in float32, {where}, {step.steps} steps after one"
    found = {"train_step": Figure(1e3 * step.seconds_p50, "ms", "measured", how)}
    found["train_memory"] = peak_figure(step.process_bytes, f"whole fresh process that trains, {where}")
    if step.step_bytes is not None:
        rise = f"rise of the same process due to the network and its training, {where}"
        found["train_step_memory"] = peak_figure(step.step_bytes, rise)
    forecast = forecast_training_memory(model, batch)
    found["train_step_memory_forecast"] = (
        Figure(None, "bytes", "unavailable", "the work depends on the content of the images")
        if forecast is None
        else Figure(forecast.total, "bytes", "modelled", f"forecast of that rise from shapes, batch {batch}")
    )
    return found


def training_loss(network: Network, images: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of one step: cross-entropy of all heads, and the penalty of the network.

    Args:
        network: Network in training mode.
        images: Images ``(batch, channels, rows, columns)``.
        truth: Class numbers, ``(batch,)`` for a classifier or ``(batch, rows, columns)`` for a segmenter.
    """

    def head_loss(head: AuxiliaryHead) -> Tensor:
        goal = (truth > 0).long() if head.target == "foreground" else truth
        goal = F.interpolate(goal[:, None].float(), head.logits.shape[2:], mode="nearest")[:, 0].long()
        return F.cross_entropy(head.logits, goal)

    output = network.training_output(images)
    return output.combine_losses(F.cross_entropy(output.logits, truth), head_loss)


def _measure_here(request: dict[str, Any]) -> dict[str, float | int | None]:
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    description = config_from_json(request["model"])
    torch.mm(torch.ones(256, 256), torch.ones(256, 256))  # thread pools exist before the count begins
    torch.optim.AdamW(
        [torch.nn.Parameter(torch.zeros(1))]
    ).step()  # torch imports its optimizers before the count begins
    before = process_memory()
    if before is not None:
        reset_peak_memory()
    network = description.build().train()
    network.begin_epoch(0.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images = torch.randn(request["batch"], description.in_channels, *description.image_size)
    truth = torch.randint(max(description.num_classes, 1), description.target_shape(len(images)))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        training_loss(network, images, truth).backward()
        optimizer.step()

    # The first step creates the moments of AdamW and is not timed.
    taken = measure_latency(step, seconds=request["seconds"], min_calls=MIN_STEPS, max_calls=MAX_STEPS, warm_up=1)
    after = process_memory()
    return {
        "seconds_p50": taken.p50_ms / 1e3,
        "steps": taken.calls,
        "process_bytes": None if after is None else after.peak_bytes,
        "step_bytes": None if before is None or after is None else max(0, after.peak_bytes - before.resident_bytes),
    }


if __name__ == "__main__":
    answer_request(_measure_here)
