"""Train segmentation networks with defaults and print one table: quality, size, work, time.

Example: python benchmarks/segmentation.py DATA --pairs monai_unet transunet_small transunet_small:kv

A pair is a preset, or a preset and a mechanism. Runs that are already in the output folder are not repeated, so
that the script can be stopped and started again. All runs see the same slices in the same split with the same seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

PAIRS = (
    "monai_unet",
    "transunet_small",
    "transunet_small:kv",
    "setr_pup_small",
    "setr_pup_small:kv",
    "cvt_small",
    "cvt_small:kv",
    "apformer",
)


def train(data: Path, pair: str, out: Path, threads: int | None) -> dict:
    """Return the summary of a run, which is trained where it is not there yet."""
    model, _, attention = pair.partition(":")
    folder = out / f"{data.stem}-{pair.replace(':', '-')}"
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "gossamer", "train", str(data), "--task", "segment", "--model", model]
        command += ["--attention", attention] if attention else []
        command += ["--threads", str(threads)] if threads else []
        begun = (folder / "last.ckpt").exists()
        command = [*command[:4], "--resume", str(folder)] if begun else [*command, "--out", str(folder)]
        subprocess.run(command, check=True)
    return json.loads((folder / "summary.json").read_text())


def row(pair: str, summary: dict) -> str:
    """Return a summary as a line of a Markdown table."""
    metrics, cost = summary["metrics"], summary["cost"]
    dice = metrics["dice"]
    classes = ", ".join(f"{values['dice']['value']:.3f}" for values in summary["per_class"].values())
    return (
        f"| {pair.replace(':', ', ')} | {cost['parameters']['value']:,} | {cost['macs']['value'] / 1e9:.3f} "
        f"| {dice['value']:.3f} ({dice['low']:.3f} to {dice['high']:.3f}) | {classes} "
        f"| {metrics['hd95']['value']:.2f} | {summary['training']['seconds'] / 60:.0f} |"
    )


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--out", type=Path, default=Path("runs/segmentation"))
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    summaries = {pair: train(options.data, pair, options.out, options.threads) for pair in options.pairs}
    first = next(iter(summaries.values()))
    print(f"{options.data.stem}, {first['split']} split, {first['cases']} cases, distances in {first['distance_unit']}")
    print("| network | parameters | GMACs a window | Dice (95 %) | each class | HD95 | training, min |")
    print("|---|---|---|---|---|---|---|")
    for pair, summary in summaries.items():
        print(row(pair, summary))


if __name__ == "__main__":
    main()
