"""Peak memory of a fresh process that runs a bundle, or an ONNX file, and does nothing else.

Run as a module, this file is that process. Nothing here needs torch, whose memory would be counted too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.engines import EngineName, load_engine
from gossamer.profiling.fresh_process import answer_request, ask_process
from gossamer.profiling.machine import measure_peak_of_calls, process_memory

_THIS = "gossamer.profiling.engine_memory"


def measure_graph_memory(model: Path, shape: tuple[int, ...], *, engine: EngineName, threads: int) -> int | None:
    """Return the peak memory of a fresh process that runs a graph, in bytes; None if the system does not report it.

    Args:
        model: ONNX file with one input and one output.
        shape: Shape of the input, ``(batch, channels, rows, columns)``.
        engine: Engine that computes the graph.
        threads: Number of CPU threads.
    """
    if process_memory() is None:
        return None
    request = {"model": str(model.absolute()), "shape": shape, "engine": engine, "threads": threads}
    return ask_process(_THIS, request, threads=threads)["process"]


def measure_bundle_process(bundle: Bundle, batch: int) -> dict[str, int]:
    """Return ``process``, the peak memory of a fresh process that runs a bundle, and ``forward``, its rise in calls.

    Args:
        bundle: Bundle whose folder the process opens.
        batch: Number of images in one call.

    Returns:
        Bytes by name; empty if the system does not report them.
    """
    if process_memory() is None:
        return {}
    request = {
        "folder": str(bundle.path.absolute()), "engine": bundle.engine.name, "threads": bundle.threads, "batch": batch,
    }  # fmt: skip
    return ask_process(_THIS, request, threads=bundle.threads or 1)


def make_bundle_inputs(bundle: Bundle, batch: int) -> np.ndarray:
    """Return random network inputs of the window's size, float32 ``(batch, channels, rows, columns)``."""
    spec = bundle.manifest.input
    shape = (batch, spec.channels * spec.stack, *spec.window)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _measure_here(request: dict[str, Any]) -> dict[str, int]:
    """Return the memory that this process needs for a request."""
    return _run_bundle(request) if "folder" in request else _run_graph(request)


def _run_graph(request: dict[str, Any]) -> dict[str, int]:
    model = Path(request["model"])
    engine = load_engine(request["engine"], model.read_bytes(), model, request["threads"])
    images = np.random.default_rng(0).standard_normal(request["shape"], dtype=np.float32)
    for _ in range(2):
        engine.run(images)
    after = process_memory()
    assert after is not None
    return {"process": after.peak_bytes}


def _run_bundle(request: dict[str, Any]) -> dict[str, int]:
    bundle = open_bundle(Path(request["folder"]), engine=request["engine"], threads=request["threads"])
    images = make_bundle_inputs(bundle, request["batch"])
    peak, rise = measure_peak_of_calls(lambda: bundle.compute_logits(images))
    return {"process": peak, "forward": rise}


if __name__ == "__main__":
    answer_request(_measure_here)
