"""What APFormer's two prunings save and cost: one trained run, with each of them switched off in evaluation.

    python benchmarks/pruning.py RUN [--data DATA] [--windows 200] [--threads 1]

RUN is a run of ``gossamer train DATA --model apformer``, trained with both prunings. Query pruning leaves out tokens
that a head of the network takes for background; dependency pruning leaves out weak entries of the attention matrix.
Dice is that of the validation split. Work, shares and time are of windows of validation slices, evenly spaced, one a
call.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gossamer.checkpoint import load_model
from gossamer.data import open_dataset
from gossamer.data.preparation.segmentation import prepare_split
from gossamer.evaluation.segmentation import evaluate_cases
from gossamer.nn.attention.adaptive import AdaptiveAttention
from gossamer.nn.models.apformer import APFormer, gate_dependencies
from gossamer.profiling.latency import measure_latencies
from gossamer.profiling.macs import count_macs
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.run_predictor import segmentation_predictor
from gossamer.training.segmentation.items import middle_window

VARIANTS = {"nothing": (False, False), "queries": (True, False), "dependencies": (False, True), "both": (True, True)}
"""Whether queries and dependencies are pruned."""


def prune(network: APFormer, queries: bool, dependencies: bool) -> None:
    """Switch the prunings of a network."""
    network.pruning = queries
    gate_dependencies(network.blocks, dependencies)


def windows_of(run: RunConfig, dataset, count: int) -> list[Tensor]:
    """Return windows from the middle of validation slices, each ``(1, channels, rows, columns)``, evenly spaced."""
    cases = prepare_split(dataset, dataset.split("val"), run.preprocessing).cases
    places = [(case, number) for case in cases for number in range(len(case.slices))]
    chosen = np.linspace(0, len(places) - 1, min(count, len(places))).astype(int)
    windows = (middle_window(places[k][0].slices, places[k][1], run.inference) for k in chosen)
    return [torch.from_numpy(window[None]) for window in windows]


def kept_dependencies(network: APFormer, windows: list[Tensor]) -> float:
    """Return the mean share of entries of the attention matrices that are above zero."""
    shares: list[float] = []

    def note(module: AdaptiveAttention, arguments: tuple, keywords: dict) -> None:
        matrix, _ = module.dense_form(*arguments[:2])
        shares.append(float((matrix > 0).float().mean()))

    hooks = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for module in network.modules()
        if isinstance(module, AdaptiveAttention)
    ]
    with torch.inference_mode():
        for images in windows:
            network(images)
    for hook in hooks:
        hook.remove()
    return float(np.mean(shares))


def main() -> None:
    """Measure the variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="where the data lie now")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = RunFolder(options.run).read_config()
    network = load_model(options.run).eval()
    if not isinstance(network, APFormer) or not network.config.prunes_queries or run.inference is None:
        sys.exit(f"{options.run} is no run of apformer with both prunings")
    dataset = open_dataset(options.data or run.data, seed=run.seed, task="segment")
    model = segmentation_predictor(network, run)
    windows = windows_of(run, dataset, options.windows)
    samples = dataset.split("val")

    called = windows[:: max(1, len(windows) // 20)]

    def calls(pruning: tuple[bool, bool]) -> None:
        prune(network, *pruning)
        with torch.inference_mode():
            for images in called:
                network(images)

    timed = {name: (lambda pruning=pruning: calls(pruning)) for name, pruning in VARIANTS.items()}
    taken = measure_latencies(timed, seconds=20.0, min_rounds=7)
    print(
        f"{len(samples)} validation cases, {len(windows)} windows of {run.inference.window}, {options.threads} threads"
    )
    print("| pruned | Dice | queries left out | dependencies kept | MMACs a window | ms a window |")
    print("|---|---|---|---|---|---|")
    for name, pruning in VARIANTS.items():
        prune(network, *pruning)
        dice = evaluate_cases(model, dataset, samples, split="val", resamples=1000).metrics["dice"]
        dropped = float(torch.cat([network.pruned_fraction(images) for images in windows]).mean())
        work = np.mean([count_macs(network, images).total for images in windows])
        kept = kept_dependencies(network, windows)
        each = taken[name]
        print(
            f"| {name} | {dice.value:.4f} ({dice.low:.3f} to {dice.high:.3f}) | {dropped:.1%} | {kept:.1%} "
            f"| {work / 1e6:.2f} | {each.p50_ms / len(called):.2f}{each.remark} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
