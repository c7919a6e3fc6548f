"""Quantize trained runs and print what is lost and what is saved, one row per run.

Example: python benchmarks/int8_quality.py runs/breastmnist-resnet_18_small-0 runs/hippocampus --out runs/int8

Each run is given to ``gossamer quantize`` with its defaults: calibration on the training split, the drop limited on the
validation split, the test split read once. Runs that are already in the output folder are not repeated. A run
without a scheme that meets the limit is a row too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HEADINGS = (
    "data", "network", "metric", "scheme", "work in 8 bits", "file", "float32, validation", "drop, validation",
    "drop, test", "signal to noise", "ONNX Runtime", "OpenVINO",
)  # fmt: skip


def quantize(run: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what ``gossamer quantize --json`` says of a run, running it if it was not run yet."""
    answer = folder.with_name(f"{folder.name}.json")
    if not answer.exists():
        command = [sys.executable, "-m", "gossamer", "quantize", str(run), "--out", str(folder), "--json"]
        command += ["--max-drop", str(options.max_drop)]
        command += ["--data", str(next(options.data.rglob(run_data(run).name)))] if options.data else []
        command += ["--threads", str(options.threads)] if options.threads else []
        began = time.monotonic()
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        found = json.loads(finished.stdout)
        print(f"{folder.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        answer.write_text(json.dumps({**found, "status": finished.returncode}))
    return json.loads(answer.read_text())


def run_data(run: Path) -> Path:
    """Return where a run found its data."""
    return Path(json.loads((run / "summary.json").read_text())["data"])


def row(run: Path, found: dict[str, Any]) -> str:
    """Return the row of a run."""
    summary = json.loads((run / "summary.json").read_text())
    attention = summary["model"].get("attention")
    network = summary["preset"] + (f" with {attention['name']}" if attention else "")
    cells = [Path(summary["data"]).stem, network]
    if found["status"]:
        return f"| {' | '.join(cells)} | {found['error']['problem']} |"
    record = found["quantization"]
    cells += [found["metric"], format_scheme(record), f"{record['share_of_macs']:.0%}"]
    cells += [f"{record['bytes']['ratio']:.3f}", f"{record['validation']['float32']:.4f}"]
    cells += [drop_of(record["validation"]), drop_of(record["test"])]
    cells += [f"{record['validation']['sqnr_db']:.0f} dB"]
    gains = {speed["engine"].split()[0]: speed["gain"] for speed in found["speeds"]}
    cells += [f"{gains[name]:.2f}" if name in gains else "-" for name in ("onnxruntime", "openvino")]
    return f"| {' | '.join(cells)} |"


def format_scheme(record: dict[str, Any]) -> str:
    """Return the scheme, with the number of layers stay in floating point."""
    kept = len(record["products_in_float32"])
    return f"{record['rung']}, {kept} kept" if kept else record["rung"]


def drop_of(comparison: dict[str, Any] | None) -> str:
    """Return a drop with its interval."""
    if comparison is None:
        return "no test split"
    drop = comparison["drop"]
    return f"{drop['value']:+.4f} ({drop['low']:+.4f} to {drop['high']:+.4f})"


def main() -> None:
    """Quantize every run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/int8"))
    parser.add_argument("--data", type=Path, help="folder below which the data sets lie now")
    parser.add_argument("--max-drop", type=float, default=0.005)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(HEADINGS)} |")
    print(f"|{'---|' * len(HEADINGS)}")
    for run in options.runs:
        print(row(run, quantize(run, options.out / run.name, options)), flush=True)


if __name__ == "__main__":
    main()
