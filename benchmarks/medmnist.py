"""Train with defaults on MedMNIST archives, several seeds and mechanisms, and print the medians.

Example: python benchmarks/medmnist.py breastmnist.npz pneumoniamnist.npz --out runs/medmnist

Runs that are already in the output folder are not repeated, so the script can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def train(data: Path, attention: str, seed: int, model: str, folder: Path) -> dict[str, object]:
    """Return the summary of one run, training it if it is not there yet."""
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "gossamer", "train"]
        if (folder / "config.yaml").exists():
            command += ["--resume", str(folder)]
        else:
            options = {"--model": model, "--attention": attention, "--seed": str(seed), "--out": str(folder)}
            command += [str(data), *(item for pair in options.items() for item in pair)]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{folder.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return json.loads((folder / "summary.json").read_text())


def main() -> None:
    """Train every cell and print one row a data set and mechanism."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/medmnist"))
    parser.add_argument("--attention", nargs="+", default=["sequence_norm", "softmax"])
    parser.add_argument("--model", default="vit_tiny")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print("| data | attention | AUROC, median of seeds | each seed | balanced accuracy | training, median |")
    print("|---|---|---|---|---|---|")
    for data in options.data:
        for attention in options.attention:
            found = [
                train(data, attention, seed, options.model, options.out / f"{data.stem}-{attention}-{seed}")
                for seed in range(options.seeds)
            ]
            areas = [summary["metrics"]["auroc"]["value"] for summary in found]  # type: ignore[index]
            balanced = [summary["metrics"]["balanced_accuracy"]["value"] for summary in found]  # type: ignore[index]
            seconds = [summary["training"]["seconds"] for summary in found]  # type: ignore[index]
            each = ", ".join(f"{area:.3f}" for area in areas)
            print(
                f"| {data.stem} | {attention} | {statistics.median(areas):.3f} | {each} "
                f"| {statistics.median(balanced):.3f} | {statistics.median(seconds):.0f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
