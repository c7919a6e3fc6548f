"""Compare stand-alone self-attention networks with their convolutional counterparts, in float32 and int8.

Example: python benchmarks/stand_alone.py
Example: python benchmarks/stand_alone.py --seconds 5 --threads 2

Published networks at their published sizes, with random weights: parameters, multiply-accumulates, bytes and time do
not depend on what a network has learned. Every network is exported, quantized statically (calibrated with noise, since
only the cost counts here) and timed in turn with the others of its task. Then the claims of arXiv 2209.15287 are
checked line by line. What int8 costs in accuracy is the matter of int8_quality.py. Energy was never measured there, and
cannot be here without a meter: the time of the same processor stands in its place, and is called time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gossamer import create_model
from gossamer.exporting.export_onnx import export_onnx
from gossamer.inference.engines import load_engine
from gossamer.profiling.latency import Latency, measure_latencies
from gossamer.profiling.machine import usable_cpus
from gossamer.profiling.macs import count_macs
from gossamer.quantization.products import find_products, prepare_graph
from gossamer.quantization.quantize_onnx import QuantizerSettings, StaticQuantizer

CALIBRATION = 8
"""Windows of noise; ranges do not change what a graph costs."""
TASKS = {
    "classification, 14 labels": (
        {"in_channels": 1, "num_classes": 14, "image_size": (512, 512)},
        ("sadnn_classifier", "sadnn_classifier_convolution", "resnet_18", "resnet_50"),
    ),
    "segmentation": ({"in_channels": 1}, ("sadnn_segmenter", "sumnet", "unet")),
}
CLAIMED = {
    "parameters": "60 to 80 % fewer parameters",
    "macs": "40 to 85 % fewer operations",
    "bytes": "50 to 80 % smaller, in float32",
    "time": "65 to 80 % less energy; here time in float32, of the same processor",
}
"""Claims of the paper's abstract about its networks and convolutional ones, by the figure that is compared here."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one network costs; times in milliseconds of one image in ONNX Runtime, and in PyTorch."""

    parameters: int
    macs: int
    bytes: int
    int8_bytes: int
    torch: Latency
    float32: Latency
    int8: Latency

    @property
    def time(self) -> float:
        """Median in float32."""
        return self.float32.p50_ms


def measure(names: tuple[str, ...], given: dict[str, Any], options: argparse.Namespace) -> dict[str, Cost]:
    """Return the cost of each network; all are timed in turn."""
    calls, sizes, counts = {}, {}, {}
    for name in names:
        print(f"preparing {name}", file=sys.stderr, flush=True)
        network = create_model(name, **given).eval()
        description = network.config
        images = torch.rand(1, description.in_channels, *description.image_size)
        counts[name] = (sum(p.numel() for p in network.parameters()), count_macs(network, images).total)
        float32 = export_onnx(network)
        model = prepare_graph(float32)
        noise = np.random.default_rng(0).random((CALIBRATION, *images.shape[1:]), dtype=np.float32)
        with StaticQuantizer(model, noise, QuantizerSettings()) as quantize:
            int8 = quantize(find_products(model))
        sizes[name] = (len(float32), len(int8))
        calls[f"{name} torch"] = _torch_call(network, images)
        for precision, graph in (("float32", float32), ("int8", int8)):
            engine = load_engine("onnxruntime", graph, Path(name), options.threads)
            calls[f"{name} {precision}"] = lambda engine=engine, window=images.numpy(): engine.run(window)
    print("timing", file=sys.stderr, flush=True)
    times = measure_latencies(calls, seconds=options.seconds, min_rounds=5)
    return {
        name: Cost(
            parameters=counts[name][0],
            macs=counts[name][1],
            bytes=sizes[name][0],
            int8_bytes=sizes[name][1],
            torch=times[f"{name} torch"],
            float32=times[f"{name} float32"],
            int8=times[f"{name} int8"],
        )
        for name in names
    }


def _torch_call(network: torch.nn.Module, images: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            network(images)

    return call


def table(found: dict[str, Cost]) -> None:
    """Print a row a network."""
    print("| network | parameters | GMACs | file float32 | file int8 | PyTorch | ONNX Runtime | int8 | int8 faster |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, cost in found.items():
        print(
            f"| {name} | {cost.parameters:,} | {cost.macs / 1e9:.3f} | {cost.bytes / 1e6:.1f} MB "
            f"| {cost.int8_bytes / 1e6:.1f} MB ({cost.int8_bytes / cost.bytes:.3f}) | {cost.torch.p50_ms:.0f} ms "
            f"| {cost.float32.p50_ms:.0f} ms | {cost.int8.p50_ms:.0f} ms "
            f"| {cost.float32.p50_ms / cost.int8.p50_ms:.2f} |"
        )


def claims(found: dict[str, Cost]) -> None:
    """Print each claim of the paper next to the measurement, compared with each counterpart."""
    ours, *counterparts = found
    print(f"\n| claimed of {ours} | {' | '.join(f'compared with {name}' for name in counterparts)} |")
    print(f"|---|{'---|' * len(counterparts)}")
    for what, text in CLAIMED.items():
        saved = [1 - getattr(found[ours], what) / getattr(found[name], what) for name in counterparts]
        cells = [f"{abs(part):.0%} {'less' if part > 0 else 'MORE'}" for part in saved]
        print(f"| {text} | {' | '.join(cells)} |")
    faster = [found[ours].int8.p50_ms / found[name].int8.p50_ms for name in counterparts]
    print(f"| (not claimed) time in int8 | {' | '.join(f'{ratio:.2f} times as long' for ratio in faster)} |")


def main() -> None:
    """Measure each task and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, for each task")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for task, (given, names) in TASKS.items():
        found = measure(names, given, options)
        print(f"\n{task}, {options.threads} threads, batch 1, p50 of calls in turn\n")
        table(found)
        claims(found)


if __name__ == "__main__":
    main()
