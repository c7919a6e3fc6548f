"""Change the mechanism of a trained network, train on for a tenth of the epochs, compare with training from scratch.

    python benchmarks/conversion.py breastmnist.npz [--model vit_nano] [--seeds 3] [--out runs/conversion]

A softmax Vision Transformer is trained with defaults. From its weights, and from fresh ones, each mechanism is trained
for a tenth of the epochs; and from fresh ones for all of them. Runs that are in the output folder are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

MECHANISMS = ("softmax", "sequence_norm", "kv", "kv_pos", "soft")
MEANT = {"kv": "mean", "kv_pos": "mean", "soft": "mean"}
"""Where queries are left out, both ways of doing so are compared."""


def train(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the summary of a run, which is trained where it is not there yet."""
    if not (folder / "summary.json").exists():
        given = ["--resume", str(folder)] if (folder / "config.yaml").exists() else [*arguments, "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "gossamer", "train", *given], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text())


def cells(options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the AUROC of each seed, for each row of the table."""
    found: dict[str, list[float]] = {}

    def note(row: str, summary: dict[str, Any]) -> None:
        found.setdefault(row, []).append(summary["metrics"]["auroc"]["value"])
        print(f"{row}: {found[row]}", file=sys.stderr, flush=True)

    threads = ["--threads", str(options.threads)] if options.threads else []
    for seed in range(options.seeds):
        common = [str(options.data), "--seed", str(seed), *threads]
        fresh = [*common, "--model", options.model]
        source = options.out / f"softmax-{seed}"
        note("softmax, all epochs", train(source, *fresh, "--attention", "softmax"))
        epochs = yaml.safe_load((source / "config.yaml").read_text())["recipe"]["epochs"]
        short = ["--epochs", str(max(1, round(epochs / 10)))]
        for name in MECHANISMS:
            given = ["--attention", name]
            if name != "softmax":
                note(f"{name}, all epochs", train(options.out / f"{name}-{seed}", *fresh, *given))
            note(f"{name}, a tenth", train(options.out / f"{name}-short-{seed}", *fresh, *given, *short))
            from_softmax = [*common, "--init", str(source), *given, *short]
            note(f"{name}, converted", train(options.out / f"{name}-converted-{seed}", *from_softmax))
            if name in MEANT:
                query = ["--query", MEANT[name]]
                folder = options.out / f"{name}-converted-mean-{seed}"
                note(f"{name}, converted (mean)", train(folder, *from_softmax, *query))
    return found


def main() -> None:
    """Train every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="vit_nano")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/conversion"))
    options = parser.parse_args()
    found = cells(options)

    def cell(row: str) -> str:
        if row not in found:
            return ""
        return f"{statistics.median(found[row]):.3f} ({', '.join(f'{value:.3f}' for value in found[row])})"

    columns = ("all epochs", "a tenth", "converted", "converted (mean)")
    print("| mechanism | fresh, all epochs | fresh, a tenth | converted, keys for queries | converted, mean for both |")
    print("|---|---|---|---|---|")
    for name in MECHANISMS:
        print(f"| {name} | " + " | ".join(cell(f"{name}, {column}") for column in columns) + " |")


if __name__ == "__main__":
    main()
