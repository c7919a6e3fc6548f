"""What an untrained network costs in PyTorch and as a graph in float32 and int8, all measured side by side.

Weights are as they were drawn and images are random numbers: the cost of a call does not depend on them, and quality is
not looked at.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gossamer.errors import ErrorCode, GossamerError
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
"""Of one call: slower networks are called fewer times."""
_CALIBRATION = 8
"""Random images that fix the ranges of activations."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """The cost of a network in one precision and engine.

    Attributes:
        precision: of the network.
        engine: ``torch``, or one of ``ENGINES``.
        latency_p50: of a call with one image or window.
        latency_p95: the same, 95th percentile.
        peak_memory: of a fresh process that calls it.
        busy: whether others had the machine while it was timed, so that its latency is an upper bound.
    """

    precision: RuntimePrecision
    engine: str
    latency_p50: Figure
    latency_p95: Figure
    peak_memory: Figure
    busy: bool = False


def installed_engines(asked: Iterable[str] | None = None) -> list[EngineName]:
    """Return the engines of bundles that can be used here.

    Args:
        asked: which are wanted; all that are installed if left out.

    Raises:
        GossamerError: ``E-CONFIG`` for an engine that does not exist, ``E-CODEC`` for one that was asked for and is
            not installed or cannot be loaded.
    """
    wanted = list(dict.fromkeys(asked)) if asked is not None else list(ENGINES)
    found: list[EngineName] = []
    for name in wanted:
        if name not in ENGINES:
            problem = f"there is no engine {name!r}"
            raise GossamerError(ErrorCode.CONFIG, "--engine", problem, f"use {' or '.join(ENGINES)}")
        try:
            importlib.import_module(name)
        except ImportError as error:
            if asked is not None:
                problem = f"{name} is not installed, or cannot be loaded"
                raise GossamerError(ErrorCode.CODEC, "--engine", problem, f'pip install "gossamer[{name}]"') from error
            continue
        found.append(name)  # type: ignore[arg-type]
    return found


def time_network(candidate: ModelCandidate) -> BenchmarkResult:
    """Return the latency of a candidate in PyTorch alone, from a few calls; its memory is not measured."""
    call = _network_call(candidate)[1]
    taken = measure_latency(call, seconds=0.3, min_calls=3, max_calls=15)
    how = f"wall clock, torch, {torch.get_num_threads()} threads, {taken.calls} calls{taken.remark}"
    return BenchmarkResult(
        precision=TORCH,
        engine=TORCH,
        latency_p50=Figure(taken.p50_ms, "ms", "measured", how),
        latency_p95=Figure(taken.p95_ms, "ms", "measured", how),
        peak_memory=Figure(None, "bytes", "unavailable", "not measured within the time"),
        busy=taken.busy,
    )


def measure_candidate(
    candidate: ModelCandidate,
    *,
    engines: Iterable[EngineName],
    threads: int,
    hopeless_ms: float | None = None,
    seconds: float = 2.0,
) -> list[BenchmarkResult]:
    """Return what a candidate costs: PyTorch first, then each engine in float32 and int8.

    Args:
        candidate: whose network is built with fresh weights.
        engines: of the graphs.
        threads: of the processor, which torch has been set to.
        hopeless_ms: of one call: where PyTorch takes longer, no graph is made.
        seconds: about how long to time all together.
    """
    network, call, images = _network_call(candidate)
    shape = images.shape
    calls: dict[tuple[RuntimePrecision, str], Callable[[], object]] = {(TORCH, TORCH): call}
    quick = measure_latency(call, seconds=0.0, min_calls=3).p50_ms
    missing: list[BenchmarkResult] = []
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        if hopeless_ms is not None and quick > hopeless_ms:
            reason = f"not made, since PyTorch takes {quick:.0f} ms for a call"
            missing = [_unavailable_benchmark(precision, engine, reason) for engine in engines for precision in GRAPHS]
        else:
            made: dict[RuntimePrecision, bytes] = {}
            for precision in GRAPHS:
                file = Path(folder) / f"{precision}.onnx"
                try:
                    made[precision] = (
                        export_onnx(network) if precision == "float32" else _quantize_graph(network, images, made)
                    )
                    file.write_bytes(made[precision])
                except GossamerError as error:
                    missing += [
                        _unavailable_benchmark(precision, engine, f"{error.where}: {error.problem}")
                        for engine in engines
                    ]
                    continue
                for engine in engines:
                    try:
                        loaded = load_engine(engine, file.read_bytes(), file, threads)
                    except GossamerError as error:
                        missing.append(_unavailable_benchmark(precision, engine, error.problem))
                        continue
                    calls[precision, engine] = lambda loaded=loaded: loaded.run(images)
        named = {f"{precision} {engine}": each for (precision, engine), each in calls.items()}
        latencies = measure_latencies(named, seconds=seconds, min_rounds=15 if quick < SLOW_MS else 5)
        found = []
        for precision, engine in calls:
            taken = latencies[f"{precision} {engine}"]
            how = f"wall clock, {engine}, {threads} threads, {taken.calls} calls in turn with the others{taken.remark}"
            if precision == TORCH:
                peak = measure_peak_memory(candidate.network, batch=1, threads=threads)
                memory = None if peak is None else peak.process_bytes
            else:
                file = Path(folder) / f"{precision}.onnx"
                memory = measure_graph_memory(file, shape, engine=engine, threads=threads)  # type: ignore[arg-type]
            found.append(
                BenchmarkResult(
                    precision=precision,
                    engine=engine,
                    latency_p50=Figure(taken.p50_ms, "ms", "measured", how),
                    latency_p95=Figure(taken.p95_ms, "ms", "measured", how),
                    peak_memory=peak_figure(memory, "whole fresh process, one image or window a call"),
                    busy=taken.busy,
                )
            )
    return [*found, *missing]


def _network_call(candidate: ModelCandidate) -> tuple[Network, Callable[[], object], np.ndarray]:
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
    """Return the graph in int8 with the scheme that is tried first; random images fix its ranges."""
    other = make_weights_constant(network)
    if other is None and "float32" not in made:
        raise GossamerError(ErrorCode.UNSUPPORTED, network.config.name, "there is no graph in float32", "see there")
    model = prepare_graph(made["float32"] if other is None else export_onnx(other))
    products = count_product_macs(model, find_products(model), images)
    if not products:
        problem = "has no convolution and no matrix product with a weight"
        raise GossamerError(ErrorCode.UNSUPPORTED, network.config.name, problem, "there is nothing to quantize")
    if reason_against_dynamic(products) is None:
        return quantize_dynamically(
            model, [product for product in products if product.kind != "Conv"], QuantizerSettings()
        )
    windows = np.random.default_rng(1).standard_normal((_CALIBRATION, *images.shape[1:]), dtype=np.float32)
    with StaticQuantizer(model, windows, QuantizerSettings()) as static:
        return static(products)


def _unavailable_benchmark(precision: RuntimePrecision, engine: str, reason: str) -> BenchmarkResult:
    time, memory = Figure(None, "ms", "unavailable", reason), Figure(None, "bytes", "unavailable", reason)
    return BenchmarkResult(precision=precision, engine=engine, latency_p50=time, latency_p95=time, peak_memory=memory)
