"""Train with defaults on MedMNIST archives, several seeds, and print the medians.

Example: python benchmarks/medmnist.py breastmnist.npz pneumoniamnist.npz --out runs/medmnist
Example: python benchmarks/medmnist.py breastmnist.npz --networks vit_tiny:softmax resnet_18_small

A network is a preset, or a preset and a mechanism. Runs that are already in the output folder are not repeated, so the
script can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def train(data: Path, network: str, seed: int, folder: Path, threads: int | None) -> dict[str, Any]:
    """Return the summary of one run, training it if it is not there yet."""
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "gossamer", "train"]
        if (folder / "config.yaml").exists():
            command += ["--resume", str(folder)]
        else:
            model, _, attention = network.partition(":")
            command += [str(data), "--model", model, "--seed", str(seed), "--out", str(folder)]
            command += ["--attention", attention] if attention else []
            command += ["--threads", str(threads)] if threads else []
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{folder.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return json.loads((folder / "summary.json").read_text())


def main() -> None:
    """Train every cell and print one row a data set and network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/medmnist"))
    parser.add_argument("--networks", nargs="+", default=["vit_tiny:sequence_norm", "vit_tiny:softmax"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    rows = []
    for data in options.data:
        for network in options.networks:
            found = []
            for seed in range(options.seeds):
                folder = options.out / f"{data.stem}-{network.replace(':', '-')}-{seed}"
                found.append(train(data, network, seed, folder, options.threads))
            rows.append(row(data.stem, network, found))
            print(rows[-1], file=sys.stderr, flush=True)
    headings = ("data", "network", "parameters", "MMACs", "AUROC, median", "each seed", "interval", "training")
    print(f"| {' | '.join(headings)} |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


def row(data: str, network: str, found: list[dict[str, Any]]) -> str:
    """Return one row of the table; the interval is that of the run with the median AUROC, over its test images."""
    middle = sorted(found, key=lambda summary: summary["metrics"]["auroc"]["value"])[len(found) // 2]
    area, cost = middle["metrics"]["auroc"], middle["cost"]
    each = ", ".join(f"{summary['metrics']['auroc']['value']:.3f}" for summary in found)
    seconds = statistics.median(summary["training"]["seconds"] for summary in found)
    return (
        f"| {data} | {network} | {cost['parameters']['value']:,} | {cost['macs']['value'] / 1e6:.1f} "
        f"| {area['value']:.3f} | {each} | {area['low']:.3f} to {area['high']:.3f} | {seconds:.0f} s |"
    )


if __name__ == "__main__":
    main()
