"""Costs of an untrained network in PyTorch and as a graph in float32 and int8, measured in turns.

Weights and images are random numbers: the cost of a call does not depend on them, and quality is not considered.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gossamer.errors import ErrorCode, GossamerError, install_hint
from gossamer.exporting.export_onnx import export_onnx
from gossamer.inference.engines import ENGINES, EngineName, load_engine
from gossamer.nn.models import Network
from gossamer.planning.candidates import ModelCandidate
from gossamer.profiling.engine_memory import measure_graph_memory
from gossamer.profiling.figure import Figure, peak_figure
from gossamer.profiling.latency import measure_latencies, measure_latency
from gossamer.profiling.memory import measure_peak_memory
from gossamer.quantization.products import count_product_macs, find_products, prepare_graph
from gossamer.quantization.quantize import reason_against_dynamic
from gossamer.quantization.quantize_onnx import QuantizerSettings, StaticQuantizer, quantize_dynamically
from gossamer.quantization.source import make_weights_constant
from gossamer.variants import RuntimePrecision

TORCH: RuntimePrecision = "torch"
GRAPHS: tuple[RuntimePrecision, ...] = ("float32", "int8")
SLOW_MS = 100.0
"""Latency of a call in milliseconds above which a network is called fewer times."""
NOT_MADE = "not made"
"""Start of the reason for graphs that were not tried."""
_CALIBRATION_IMAGES = 8
"""Number of random images that set the ranges of activations."""

Form = tuple[RuntimePrecision, str]
"""A precision and the engine that computes it."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Measured costs of a network in one precision and engine.

    Attributes:
        precision: Precision of the network.
        engine: ``torch``, or one of ``ENGINES``.
        latency_p50: Median latency of a call with one image or window.
        latency_p95: 95th percentile of the latency.
        peak_memory: Peak memory of a fresh process that calls the network.
        busy: Whether other processes used the machine during the timing, so that the latency is an upper bound.
    """

    precision: RuntimePrecision
    engine: str
    latency_p50: Figure
    latency_p95: Figure
    peak_memory: Figure
    busy: bool = False


def find_engines(requested: Iterable[str] | None = None) -> list[EngineName]:
    """Return the engines of bundles that can be used on this machine.

    Args:
        requested: Names of engines (default: all that are installed).

    Raises:
        GossamerError: ``E-CONFIG`` for an engine that does not exist, ``E-CODEC`` for a requested one that is not
            installed or cannot be loaded.
    """
    found: list[EngineName] = []
    for name in dict.fromkeys(ENGINES if requested is None else requested):
        if name not in ENGINES:
            problem = f"there is no engine {name!r}"
            raise GossamerError(ErrorCode.CONFIG, "engine", problem, f"use {' or '.join(ENGINES)}")
        try:
            importlib.import_module(name)
        except ImportError as error:
            if requested is not None:
                problem = f"{name} is not installed, or cannot be loaded"
                raise GossamerError(ErrorCode.CODEC, "engine", problem, install_hint(name)) from error
            continue
        found.append(name)  # type: ignore[arg-type]
    return found


def time_network(candidate: ModelCandidate) -> BenchmarkResult:
    """Return the latency of a candidate in PyTorch from a few calls, without its memory."""
    call = _create_call(candidate)[1]
    latency = measure_latency(call, seconds=0.3, min_calls=3, max_calls=15)
    how = f"wall clock, torch, {torch.get_num_threads()} threads, {latency.calls} calls{latency.remark}"
    return BenchmarkResult(
        precision=TORCH,
        engine=TORCH,
        latency_p50=Figure(latency.p50_ms, "ms", "measured", how),
        latency_p95=Figure(latency.p95_ms, "ms", "measured", how),
        peak_memory=Figure(None, "bytes", "unavailable", "not measured within the time budget"),
        busy=latency.busy,
    )


def measure_candidate(
    candidate: ModelCandidate,
    *,
    engines: Iterable[EngineName],
    threads: int,
    hopeless_ms: float | None = None,
    seconds: float = 2.0,
) -> list[BenchmarkResult]:
    """Return the costs of a candidate: in PyTorch, then in each engine in float32 and int8.

    Args:
        candidate: Candidate, whose network gets fresh weights.
        engines: Engines of the graphs.
        threads: Number of CPU threads, which is also torch's.
        hopeless_ms: Latency in PyTorch above which no graph is made, in milliseconds (default: none).
        seconds: Approximate time of all calls in seconds (default: 2).
    """
    network, call, images = _create_call(candidate)
    calls: dict[Form, Callable[[], object]] = {(TORCH, TORCH): call}
    quick_ms = measure_latency(call, seconds=0.0, min_calls=3).p50_ms
    engines = list(engines)
    with tempfile.TemporaryDirectory(prefix="gossamer-") as name:
        folder = Path(name)
        if hopeless_ms is not None and quick_ms > hopeless_ms:
            reason = f"{NOT_MADE}, since a call in PyTorch takes {quick_ms:.0f} ms"
            missing = [_unavailable_benchmark(graph, engine, reason) for engine in engines for graph in GRAPHS]
        else:
            missing = _load_graphs(network, images, engines, threads, folder, calls)
        named = {f"{precision} {engine}": each for (precision, engine), each in calls.items()}
        latencies = measure_latencies(named, seconds=seconds, min_rounds=15 if quick_ms < SLOW_MS else 5)
        found = []
        for precision, engine in calls:
            latency = latencies[f"{precision} {engine}"]
            detail = f"{threads} threads, {latency.calls} calls in turns with the others{latency.remark}"
            how = f"wall clock, {engine}, {detail}"
            memory = _measure_memory(candidate, images, (precision, engine), threads, folder)
            found.append(
                BenchmarkResult(
                    precision=precision,
                    engine=engine,
                    latency_p50=Figure(latency.p50_ms, "ms", "measured", how),
                    latency_p95=Figure(latency.p95_ms, "ms", "measured", how),
                    peak_memory=peak_figure(memory, "whole fresh process, one image or window per call"),
                    busy=latency.busy,
                )
            )
    return [*found, *missing]


def _load_graphs(
    network: Network,
    images: np.ndarray,
    engines: list[EngineName],
    threads: int,
    folder: Path,
    calls: dict[Form, Callable[[], object]],
) -> list[BenchmarkResult]:
    """Write the graphs of a network, add a call of each engine, and return what is unavailable, with its reason."""
    graphs: dict[RuntimePrecision, bytes] = {}
    missing: list[BenchmarkResult] = []
    for precision in GRAPHS:
        file = folder / f"{precision}.onnx"
        try:
            graph = export_onnx(network) if precision == "float32" else _quantize_graph(network, images, graphs)
        except GossamerError as error:
            reason = f"{error.where}: {error.problem}"
            missing += [_unavailable_benchmark(precision, engine, reason) for engine in engines]
            continue
        graphs[precision] = graph
        file.write_bytes(graph)
        for engine in engines:
            try:
                loaded = load_engine(engine, graph, file, threads)
            except GossamerError as error:
                missing.append(_unavailable_benchmark(precision, engine, error.problem))
                continue
            calls[precision, engine] = lambda loaded=loaded: loaded.run(images)
    return missing


def _measure_memory(
    candidate: ModelCandidate, images: np.ndarray, form: Form, threads: int, folder: Path
) -> int | None:
    """Return the peak memory of a fresh process in bytes; None if it cannot be measured."""
    precision, engine = form
    if precision == TORCH:
        peak = measure_peak_memory(candidate.network, batch=1, threads=threads)
        return None if peak is None else peak.process_bytes
    file = folder / f"{precision}.onnx"
    return measure_graph_memory(file, images.shape, engine=engine, threads=threads)  # type: ignore[arg-type]


def _create_call(candidate: ModelCandidate) -> tuple[Network, Callable[[], object], np.ndarray]:
    """Return the network with fresh weights, a call of it, and the random image of that call."""
    torch.manual_seed(0)
    network = candidate.network.build().eval()
    shape = (1, candidate.network.in_channels, *candidate.image_size)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    given = torch.from_numpy(images)

    def call() -> object:
        with torch.inference_mode():
            return network(given)

    return network, call, images


def _quantize_graph(network: Network, images: np.ndarray, made: dict[RuntimePrecision, bytes]) -> bytes:
    """Return the graph in int8 by the scheme that quantization tries first; random images set its ranges."""
    other = make_weights_constant(network)
    if other is None and "float32" not in made:
        raise GossamerError(
            ErrorCode.UNSUPPORTED,
            network.config.name,
            "there is no graph in float32",
            "see the error of the float32 graph",
        )
    model = prepare_graph(made["float32"] if other is None else export_onnx(other))
    products = count_product_macs(model, find_products(model), images)
    if not products:
        problem = "has no convolution and no matrix product with a weight"
        raise GossamerError(ErrorCode.UNSUPPORTED, network.config.name, problem, "use the float32 graph")
    if reason_against_dynamic(products) is None:
        return quantize_dynamically(
            model, [product for product in products if product.kind != "Conv"], QuantizerSettings()
        )
    windows = np.random.default_rng(1).standard_normal((_CALIBRATION_IMAGES, *images.shape[1:]), dtype=np.float32)
    with StaticQuantizer(model, windows, QuantizerSettings()) as static:
        return static(products)


def _unavailable_benchmark(precision: RuntimePrecision, engine: str, reason: str) -> BenchmarkResult:
    time, memory = Figure(None, "ms", "unavailable", reason), Figure(None, "bytes", "unavailable", reason)
    return BenchmarkResult(precision=precision, engine=engine, latency_p50=time, latency_p95=time, peak_memory=memory)
