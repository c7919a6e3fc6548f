"""Peak resident memory of an evaluation: a forecast from shapes, and a measurement in a fresh process.

The measured process does nothing else, so that no other memory is counted. Run as a module, this file is that process:
it reads the config of a network from standard input and writes its measurements.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gossamer import config
from gossamer.nn.models import NetworkConfig, config_from_json
from gossamer.profiling.fresh_process import answer_request, ask_process
from gossamer.profiling.live_bytes import LiveBytes
from gossamer.profiling.machine import measure_peak_of_calls, process_memory

_THIS = "gossamer.profiling.memory"
BUILD_BYTES = 6 * 2**20
"""Growth of a process when it builds its first network, in addition to weights: code that is loaded."""
KERNEL_BYTES = 14 * 2**20
"""Growth of a process in its first call, in addition to tensors: code of the kernels, and their workspaces."""
COMPILER_BYTES = 66 * 2**20
"""Memory of torch's compiler, which torch imports when it first runs an operator that is not its own."""
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
"""Environment in which glibc returns every larger piece of memory to the system when it is freed."""


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of a fresh process that built a network and ran it.

    Attributes:
        process_bytes: Peak of the whole process: interpreter, torch, weights and activations.
        forward_bytes: Rise of the peak in calls of the network, above the memory before them.
    """

    process_bytes: int
    forward_bytes: int


@dataclass(frozen=True)
class MemoryForecast:
    """Forecast memory of an evaluation, in bytes.

    Attributes:
        weights: Bytes of parameters and buffers.
        images: Bytes of the images of one call.
        activations: Largest number of bytes of tensors and workspaces of convolutions that exist at once in a call.
        custom_operators: Whether operators run that are not torch's own.
    """

    weights: int
    images: int
    activations: int
    custom_operators: bool = False

    @property
    def forward_bytes(self) -> int:
        """Rise of the memory of a process in its first call."""
        return self.activations + KERNEL_BYTES + (COMPILER_BYTES if self.custom_operators else 0)

    def process_bytes(self, bare: int) -> int:
        """Return the peak memory of a process.

        Args:
            bare: Bytes of the process before it builds the network.
        """
        return bare + BUILD_BYTES + self.weights + self.images + self.forward_bytes


def forecast_memory(model: NetworkConfig, *, batch: int = 1) -> MemoryForecast | None:
    """Return the memory of one evaluation of ``model``, from shapes alone; None if torch cannot follow it.

    Networks that prune are forecast without pruning, which needs the most memory.

    Args:
        model: Config of the network.
        batch: Number of images in one call.
    """
    with torch.device("meta"):
        network = model.build().eval()
    counter = LiveBytes(workspaces=True, assume_dense=True)
    try:
        with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
            # Caches are keyed by addresses, which fake tensors do not have; nothing is kept here.
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            network.to_empty(device="cpu")
            images = torch.zeros(batch, model.in_channels, *model.image_size)
            with torch.no_grad(), counter:  # inference mode would hide tensors inside composite operators
                network(images)
    except DataDependentOutputException:
        return None
    stored = [*network.parameters(), *network.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    return MemoryForecast(weights, images.numel() * images.element_size(), counter.peak, counter.custom_operators)


@lru_cache(maxsize=1)
def bare_process_bytes() -> int | None:
    """Return the memory of a fresh process that imports torch and the networks and runs nothing; None if unknown."""
    return None if process_memory() is None else ask_process(_THIS, {}, threads=1)["resident_bytes"]


def measure_peak_memory(
    model: NetworkConfig, *, batch: int, threads: int, returning: bool = False
) -> PeakMemory | None:
    """Return the peak memory of one evaluation of ``model``; None if the system does not report it.

    Args:
        model: Config of the network.
        batch: Number of images in one call.
        threads: Number of threads of torch in the process.
        returning: Whether the allocator returns freed memory at once. By default it keeps and splits pieces, as it does
            for every user, which needs more memory, by an amount that depends on earlier allocations.
    """
    if process_memory() is None:
        return None
    request = {"model": config.to_json(model), "batch": batch, "threads": threads}
    return PeakMemory(**ask_process(_THIS, request, threads=threads, environment=RETURNING if returning else None))


def _measure_here(request: dict[str, Any]) -> dict[str, int]:
    if "model" not in request:
        bare = process_memory()
        assert bare is not None
        return {"resident_bytes": bare.resident_bytes}
    torch.set_num_threads(request["threads"])
    description = config_from_json(request["model"])
    model = description.build().eval()
    images = torch.zeros(request["batch"], description.in_channels, *description.image_size)
    with torch.inference_mode():
        torch.mm(torch.ones(256, 256), torch.ones(256, 256))  # thread pools exist before the count begins
        peak, rise = measure_peak_of_calls(lambda: model(images))
    return {"process_bytes": peak, "forward_bytes": rise}


if __name__ == "__main__":
    answer_request(_measure_here)
