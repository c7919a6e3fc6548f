"""Cost of a bundle on this machine: file, time of a call, energy, and memory of a process. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gossamer.inference.bundle import Bundle
from gossamer.inference.manifest import MODEL
from gossamer.profiling.energy import measure_energy, modelled_energy
from gossamer.profiling.engine_memory import make_bundle_inputs, measure_bundle_process
from gossamer.profiling.figure import Costs, Figure, peak_figure
from gossamer.profiling.latency import Latency, measure_latencies, measure_latency
from gossamer.profiling.machine import describe_machine

_PACKAGES = ("gossamer", "numpy", "onnxruntime", "openvino")


def measure_bundle(bundle: Bundle, *, batch: int = 1, seconds: float = 2.0) -> Costs:
    """Return the cost of the network of a bundle, without reading and preprocessing.

    Energy is measured if this machine has a meter that can be read. If the manifest states the multiply-accumulates of
    a window, modelled energy is a separate figure.

    Args:
        bundle: Open bundle; a fresh process opens its folder again.
        batch: Number of images in one call, each of the window's size.
        seconds: Approximate time spent on timing, in seconds.
    """
    images = make_bundle_inputs(bundle, batch)
    latency = measure_latency(lambda: bundle.compute_logits(images), seconds=seconds)
    return {
        "file": measure_file_size(bundle),
        **_latency_figures(bundle, batch, latency),
        "energy": measure_energy(lambda: bundle.compute_logits(images), seconds=seconds),
        **_stated_figures(bundle, batch),
        **measure_bundle_memory(bundle, batch=batch),
    }


def measure_file_size(bundle: Bundle) -> Figure:
    """Return the size of the network's file."""
    return Figure(bundle.manifest.members[MODEL].bytes, "bytes", "computed", MODEL)


def measure_bundle_memory(bundle: Bundle, *, batch: int = 1) -> Costs:
    """Return ``peak_memory`` of a fresh process that runs the bundle, and ``forward_memory``, its rise in calls.

    Args:
        bundle: Bundle whose folder the process opens.
        batch: Number of images in one call.
    """
    memory = measure_bundle_process(bundle, batch)
    where = f"{bundle.engine.name}, {_describe_conditions(bundle, batch)}"
    return {
        "peak_memory": peak_figure(memory.get("process"), f"whole fresh process, {where}"),
        "forward_memory": peak_figure(memory.get("forward"), f"rise of the same process in calls, {where}"),
    }


def compare_engines(bundles: Mapping[str, Bundle], *, batch: int = 1, seconds: float = 3.0) -> dict[str, Costs]:
    """Return the latencies of one bundle in several engines, whose calls take turns.

    Args:
        bundles: The bundle in each engine, by the name of the engine.
        batch: Number of images in one call.
        seconds: Approximate time spent on timing all engines, in seconds.
    """
    images = make_bundle_inputs(next(iter(bundles.values())), batch)
    calls = {name: partial(bundle.compute_logits, images) for name, bundle in bundles.items()}
    found = measure_latencies(calls, seconds=seconds)
    return {name: _latency_figures(bundle, batch, found[name]) for name, bundle in bundles.items()}


def bundle_machine() -> dict[str, Any]:
    """Return the description of this machine with the versions of the packages that run a bundle."""
    machine = describe_machine()
    found = {name: machine["packages"].get(name) for name in _PACKAGES}
    return {**machine, "packages": {name: version for name, version in found.items() if version is not None}}


def _latency_figures(bundle: Bundle, batch: int, latency: Latency) -> Costs:
    return latency.figures(f"{bundle.engine.name} {bundle.engine.version}, {_describe_conditions(bundle, batch)}")


def _describe_conditions(bundle: Bundle, batch: int) -> str:
    window = bundle.manifest.input.window
    threads = f"{bundle.threads} threads" if bundle.threads else "the engine's number of threads"
    return f"batch {batch} of {window[0]}x{window[1]}, {threads}"


def _stated_figures(bundle: Bundle, batch: int) -> Costs:
    """Return the multiply-accumulates that the manifest states for a window, and the energy modelled from them."""
    stated = bundle.manifest.cost.get("macs")
    if not isinstance(stated, Mapping):
        return {}
    macs = stated.get("value")
    if not isinstance(macs, int | float) or not macs > 0:
        return {}
    modelled = modelled_energy(batch * macs, bundle.manifest.precision)
    if bundle.manifest.precision == "int8":  # products of two activations stay in float32
        modelled = replace(modelled, detail=f"{modelled.detail}; as if nothing had stayed in float32")
    return {"macs": Figure(macs, "MACs", "computed", str(stated.get("detail"))), "energy_modelled": modelled}
