"""The memory of a process that opens an ONNX file and runs it, and does nothing else.

Run as a module, this file is that process. Nothing here needs torch, whose memory would be counted too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gossamer.inference.engines import EngineName, load_engine
from gossamer.profiling.fresh_process import answer_request, ask_process
from gossamer.profiling.machine import process_memory


def measure_graph_memory(model: Path, shape: tuple[int, ...], *, engine: EngineName, threads: int) -> int | None:
    """Return the peak resident memory in bytes of a fresh process that runs a graph, None where no system tells it.

    Args:
        model: an ONNX file with one input and one output.
        shape: ``(batch, channels, rows, columns)`` of the input.
        engine: what computes it.
        threads: of the processor.
    """
    if process_memory() is None:
        return None
    request = {"model": str(model.absolute()), "shape": shape, "engine": engine, "threads": threads}
    return ask_process("gossamer.profiling.graph", request, threads=threads)["process"]


def _probe(request: dict[str, Any]) -> dict[str, int]:
    model = Path(request["model"])
    engine = load_engine(request["engine"], model.read_bytes(), model, request["threads"])
    images = np.random.default_rng(0).standard_normal(request["shape"], dtype=np.float32)
    for _ in range(2):
        engine.run(images)
    after = process_memory()
    assert after is not None
    return {"process": after.peak_bytes}


if __name__ == "__main__":
    answer_request(_probe)
