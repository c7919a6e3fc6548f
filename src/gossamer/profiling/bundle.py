"""What a bundle costs on this machine: the time of a call, and the memory of a process that does nothing else.

Run as a module, this file is that process: it opens a bundle, runs it, and writes what it measured. Nothing here needs
torch, whose memory would be counted too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.manifest import MODEL
from gossamer.profiling.energy import measure_energy, modelled_energy
from gossamer.profiling.figure import Figure, peak_figure
from gossamer.profiling.fresh_process import answer_request, ask_process
from gossamer.profiling.latency import Latency, measure_latencies, measure_latency
from gossamer.profiling.machine import describe_machine, process_memory, reset_peak_memory

Costs = dict[str, Figure]
_PACKAGES = ("gossamer", "numpy", "onnxruntime", "openvino")


def measure_bundle(bundle: Bundle, *, batch: int = 1, seconds: float = 2.0) -> Costs:
    """Return what the network of a bundle takes: its file, a call and a process; reading and preprocessing come on top.

    Energy is measured where this machine has a meter that may be read. What the paper's model says stands
    beside it, by a name of its own, where the manifest knows the multiply-accumulates of a window.

    Args:
        bundle: that was opened; its folder is opened once more, by a process of its own.
        batch: images of one call, each of the window's size.
        seconds: about how long to time.
    """
    images = _images(bundle, batch)
    latency = measure_latency(lambda: bundle.compute_logits(images), seconds=seconds)
    return {
        "file": file_size(bundle),
        **_latencies(bundle, batch, latency),
        "energy": measure_energy(lambda: bundle.compute_logits(images), seconds=seconds),
        **_modelled(bundle, batch),
        **measure_bundle_memory(bundle, batch=batch),
    }


def file_size(bundle: Bundle) -> Figure:
    """Return the bytes of the network's file."""
    return Figure(bundle.manifest.members[MODEL].bytes, "bytes", "computed", MODEL)


def measure_bundle_memory(bundle: Bundle, *, batch: int = 1) -> Costs:
    """Return ``peak_memory`` of a fresh process that runs the bundle, and ``forward_memory``, its rise in calls.

    Args:
        bundle: whose folder the process opens.
        batch: images of one call.
    """
    memory: dict[str, int] = {} if process_memory() is None else _memory_of_a_process(bundle, batch)
    where = f"{bundle.engine.name}, {_conditions(bundle, batch)}"
    return {
        "peak_memory": peak_figure(memory.get("process"), f"whole fresh process, {where}"),
        "forward_memory": peak_figure(memory.get("forward"), f"rise of the same process in calls, {where}"),
    }


def compare_engines(bundles: Mapping[str, Bundle], *, batch: int = 1, seconds: float = 3.0) -> dict[str, Costs]:
    """Return the latencies of one bundle in several engines, whose calls take turns, by the names of ``bundles``."""
    images = _images(next(iter(bundles.values())), batch)
    calls = {name: partial(bundle.compute_logits, images) for name, bundle in bundles.items()}
    found = measure_latencies(calls, seconds=seconds)
    return {name: _latencies(bundle, batch, found[name]) for name, bundle in bundles.items()}


def machine_of_bundles() -> dict[str, Any]:
    """Return what this machine is, with the packages that run a bundle alone."""
    machine = describe_machine()
    found = {name: machine["packages"].get(name) for name in _PACKAGES}
    return {**machine, "packages": {name: version for name, version in found.items() if version is not None}}


def _latencies(bundle: Bundle, batch: int, latency: Latency) -> Costs:
    engine = f"{bundle.engine.name} {bundle.engine.version}"
    how = f"wall clock, {engine}, {_conditions(bundle, batch)}, {latency.calls} calls after warm-up{latency.remark}"
    return {
        "latency_p50": Figure(latency.p50_ms, "ms", "measured", how),
        "latency_p95": Figure(latency.p95_ms, "ms", "measured", how),
    }


def _conditions(bundle: Bundle, batch: int) -> str:
    window = bundle.manifest.input.window
    threads = f"{bundle.threads} threads" if bundle.threads else "the engine's number of threads"
    return f"batch {batch} of {window[0]}x{window[1]}, {threads}"


def _modelled(bundle: Bundle, batch: int) -> Costs:
    """Return the multiply-accumulates that the manifest states, of one window, and the energy that they stand for."""
    stated = bundle.manifest.cost.get("macs")
    if not isinstance(stated, Mapping):
        return {}
    macs = stated.get("value")
    if not isinstance(macs, int | float) or not macs > 0:
        return {}
    modelled = modelled_energy(batch * macs, bundle.manifest.precision)
    if bundle.manifest.precision == "int8":  # products of two activations stay in floating point
        modelled = replace(modelled, detail=f"{modelled.detail}; as if nothing had stayed in float32")
    return {"macs": Figure(macs, "MACs", "computed", str(stated.get("detail"))), "energy_modelled": modelled}


def _images(bundle: Bundle, batch: int) -> np.ndarray:
    spec = bundle.manifest.input
    shape = (batch, spec.channels * spec.stack, *spec.window)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _memory_of_a_process(bundle: Bundle, batch: int) -> dict[str, int]:
    request = {
        "folder": str(bundle.path.absolute()), "engine": bundle.engine.name, "threads": bundle.threads, "batch": batch,
    }  # fmt: skip
    return ask_process("gossamer.profiling.bundle", request, threads=bundle.threads or 1)


def _probe(request: dict[str, Any]) -> dict[str, int]:
    bundle = open_bundle(Path(request["folder"]), engine=request["engine"], threads=request["threads"])
    images = _images(bundle, request["batch"])
    before = process_memory()
    reset_peak_memory()
    for _ in range(2):
        bundle.compute_logits(images)
    after = process_memory()
    assert before is not None
    assert after is not None
    return {"process": after.peak_bytes, "forward": max(0, after.peak_bytes - before.resident_bytes)}


if __name__ == "__main__":
    answer_request(_probe)
