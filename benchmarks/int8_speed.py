"""Time a Vision Transformer in PyTorch, and its bundles in float32 and int8 in each engine, from file to class.

Example: python benchmarks/int8_speed.py --model vit_small --attention softmax sequence_norm --out runs/int8_speed

Draws phantom radiographs of the network's size, trains one epoch, exports, quantizes statically and times everything
in turn in one process, with the threads given: the network alone, and the whole pipeline from a PNG file to its class.
What the network has learned does not change its time. Ratios are relative to PyTorch in float32 in the same run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from gossamer.data.io import read_image
from gossamer.errors import GossamerError
from gossamer.inference.engines import ENGINES
from gossamer.inference.manifest import MODEL
from gossamer.inference.predictor import Predictor
from gossamer.inference.tasks import open_predictor
from gossamer.profiling.latency import Latency, measure_latencies
from gossamer.profiling.machine import usable_cpus
from gossamer.training.run_predictor import load_run_predictor

PATCH = 16


def gossamer(*arguments: object) -> None:
    """Run a verb, whose output is shown only where it fails."""
    command = [sys.executable, "-m", "gossamer", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(finished.stderr)


def prepare(options: argparse.Namespace, attention: str) -> tuple[Path, Path, Path]:
    """Return the folders of a run and of its two bundles, making those that are not there."""
    folder, data = options.out / f"{options.model}-{attention}", options.out / "phantom"
    if not data.exists():
        gossamer("data", "phantom", data, "--count", 240, "--image-size", options.image_size)
    run, float32, int8 = (folder / name for name in ("run", "float32", "int8"))
    if not run.exists():
        given = ["--model", options.model, "--attention", attention, "--image-size", options.image_size]
        gossamer("train", data, *given, "--patch-size", PATCH, "--epochs", 1, "--out", run)
    if not float32.exists():
        gossamer("export", run, "--out", float32)
    if not int8.exists():
        gossamer("quantize", run, "--scheme", "static", "--max-drop", 1, "--out", int8)
    return run, float32, int8


def classifiers(run: Path, bundles: dict[str, Path], threads: int) -> Iterator[tuple[str, Predictor]]:
    """Yield every way to compute the network, by name."""
    yield "PyTorch float32", load_run_predictor(run)
    for engine in ENGINES:
        for precision, folder in bundles.items():
            try:
                yield f"{engine} {precision}", open_predictor(folder, engine=engine, threads=threads)  # type: ignore[arg-type]
            except GossamerError as error:
                print(f"{engine}: {error}", file=sys.stderr)


def pipeline(classifier: Predictor, files: Iterator[Path]) -> Callable[[], object]:
    """Return a call that takes the next file to its class."""
    return lambda: classifier.predict(read_image(next(files)))


def main() -> None:
    """Prepare every mechanism, time it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_small")
    parser.add_argument("--attention", nargs="+", default=["softmax", "sequence_norm"])
    parser.add_argument("--image-size", default="224x224")
    parser.add_argument("--out", type=Path, default=Path("runs/int8_speed"))
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing, for each table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.model} at {options.image_size}, {options.threads} threads, batch 1, p50 of calls in turn\n")
    print("| mechanism | computed by | file | network | times faster | file to class | times faster |")
    print("|---|---|---|---|---|---|---|")
    for attention in options.attention:
        run, float32, int8 = prepare(options, attention)
        ways = dict(classifiers(run, {"float32": float32, "int8": int8}, options.threads))
        pictures = sorted((options.out / "phantom").rglob("*.png"))[:20]
        window = next(iter(ways.values())).preprocessing.network_input(read_image(pictures[0]))[None]
        window = np.ascontiguousarray(window)
        alone = measure_latencies(
            {name: lambda way=way, window=window: way.network(window) for name, way in ways.items()},
            seconds=options.seconds,
        )
        whole = measure_latencies(
            {name: pipeline(way, cycle(pictures)) for name, way in ways.items()}, seconds=options.seconds
        )
        bytes_of = {name: (int8 if "int8" in name else float32) / MODEL for name in ways}
        for name in ways:
            size = bytes_of[name].stat().st_size / (float32 / MODEL).stat().st_size
            print(f"| {attention} | {name} | {size:.3f} | {_cells(alone, name)} | {_cells(whole, name)} |", flush=True)


def _cells(found: dict[str, Latency], name: str) -> str:
    return f"{found[name].p50_ms:.1f} ms | {found['PyTorch float32'].p50_ms / found[name].p50_ms:.2f}"


if __name__ == "__main__":
    main()
