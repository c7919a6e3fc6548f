"""Peak resident memory, measured in a fresh process so that nothing else's memory is counted.

Run as a module, this file is that process: it reads a network's config from standard input and writes what it measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from gossamer import config
from gossamer.measure.machine import process_memory, reset_peak_memory
from gossamer.nn.models import NetworkConfig, config_from_json


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of a fresh process that built a network and ran it.

    Attributes:
        process_bytes: the peak of the whole process: interpreter, torch, weights and activations.
        forward_bytes: by how much calls of the network raised the peak above what was resident before them.
    """

    process_bytes: int
    forward_bytes: int


def measure_peak_memory(model: NetworkConfig, *, batch: int, threads: int) -> PeakMemory | None:
    """Return the peak memory of one evaluation of ``model``, or None where the system cannot tell.

    Args:
        model: config of the network; its weights do not matter.
        batch: images of one call.
        threads: of torch in the process.
    """
    if process_memory() is None:
        return None
    request = json.dumps({"model": config.to_json(model), "batch": batch, "threads": threads})
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    finished = subprocess.run(
        [sys.executable, "-m", "gossamer.measure.memory"],
        input=request,
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    answer = json.loads(finished.stdout)
    return PeakMemory(answer["process_bytes"], answer["forward_bytes"])


def _probe(request: dict[str, Any]) -> dict[str, int]:
    import torch

    torch.set_num_threads(request["threads"])
    description = config_from_json(request["model"])
    model = description.build().eval()
    images = torch.zeros(request["batch"], description.in_channels, *description.image_size)
    with torch.inference_mode():
        torch.mm(torch.ones(256, 256), torch.ones(256, 256))  # thread pools exist before the count begins
        before = process_memory()
        reset_peak_memory()
        for _ in range(2):
            model(images)
    after = process_memory()
    assert before is not None
    assert after is not None
    return {"process_bytes": after.peak_bytes, "forward_bytes": max(0, after.peak_bytes - before.resident_bytes)}


if __name__ == "__main__":
    json.dump(_probe(json.load(sys.stdin)), sys.stdout)
