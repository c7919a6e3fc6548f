"""Print the table of ``gossamer compare`` in Markdown, from its ``summary.json``; ``docs/results`` is made of them.

Example: python benchmarks/comparison_table.py compared/chest/summary.json

Quality is the mean over seeds with a 95 % interval over patients; "than softmax" is paired with the same network with
softmax, with p corrected for the number of tests. Latency is the median of one image. A missing value is a dash.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HEADINGS = (
    "network", "each seed", "than softmax", "int8 loses", "parameters", "MMACs", "exponentials", "PyTorch, ms",
    "float32, ms", "int8, ms", "int8, MB", "a training, s",
)  # fmt: skip


def build_row(variant: dict[str, Any]) -> list[str]:
    """Return the cells of a network with its mechanism."""
    name = variant["model"] if variant["attention"] is None else f"{variant['model']}, {variant['attention']}"
    seeds = [cell["quality"] for cell in variant["cells"] if cell["quality"]]
    each = ", ".join(f"{seed['value']:.3f}" for seed in seeds)
    versus = variant["versus_twin"]
    against = "–"
    if versus is not None:
        p = "" if versus["p_holm"] is None else f"; p {max(versus['p_holm'], 0.001):.3f}"
        value, low, high = (f"{versus[key]:+z.3f}" for key in ("value", "low", "high"))
        against = f"{value} ({low} to {high}{p})"
    return [
        name,
        format_estimate(variant["quality"]),
        *([each] if len(variant["cells"]) > 1 else []),
        against,
        format_estimate(variant["int8_drop"], 4),
        *format_costs(variant["measured"]),
        "–" if variant["training_seconds"] is None else f"{variant['training_seconds']:.0f}",
    ]


def format_estimate(estimate: dict[str, float] | None, decimals: int = 3) -> str:
    """Return an estimate with its interval."""
    if estimate is None:
        return "–"
    value, low, high = (f"{estimate[key]:z.{decimals}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def format_costs(measured: dict[str, Any] | None) -> list[str]:
    """Return the costs of a variant, each in the unit of its heading."""
    if measured is None:
        return ["–"] * 7
    network, precisions = measured["network"], measured["precisions"]
    found = [f"{network['parameters']['value']:,.0f}", f"{network['macs']['value'] / 1e6:.1f}"]
    found.append(f"{network['exponentials']['value']:,.0f}")
    for precision, name, unit in (
        ("torch", "latency_p50", 1), ("float32", "latency_p50", 1), ("int8", "latency_p50", 1), ("int8", "file", 1e6),
    ):  # fmt: skip
        value = precisions.get(precision, {}).get(name, {}).get("value")
        found.append("–" if value is None else f"{value / unit:.1f}")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summary", type=Path)
    summary = json.loads(parser.parse_args().summary.read_text())
    several = len(summary["plan"]["seeds"]) > 1
    quality = {"auroc": "AUROC", "dice": "Dice"}[summary["metric"]]
    headings = [HEADINGS[0], quality, *HEADINGS[1 if several else 2 :]]
    print(f"| {' | '.join(headings)} |")
    print("|" + "---|" * len(headings))
    for variant in summary["kinds"]:
        print(f"| {' | '.join(build_row(variant))} |")


if __name__ == "__main__":
    main()
