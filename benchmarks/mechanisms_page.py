"""Write docs/mechanisms.md from the notes of the mechanisms and the measurements of attention.py.

Example: python benchmarks/mechanisms_page.py benchmarks/attention.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gossamer.files import write_text
from gossamer.nn.attention import MECHANISMS

PAGE = Path(__file__).parents[1] / "docs" / "mechanisms.md"


def format_milliseconds(seconds: float | None) -> str:
    """Return a time for a cell of a table."""
    return "" if seconds is None else f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.1f}"


def format_ratio(value: float) -> str:
    """Return a ratio for a sentence."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def growth_table(found: dict[str, Any]) -> list[str]:
    """Return the table of times over the number of tokens."""
    growth = found["growth"]
    sizes = sorted({int(size) for times in growth["seconds"].values() for size in times})
    lines = [
        f"| mechanism | {' | '.join(f'{size:,}' for size in sizes)} | exponent from 4,096 |",
        f"|---|{'---:|' * (len(sizes) + 1)}",
    ]
    for name in MECHANISMS:
        times = growth["seconds"][name]
        cells = [format_milliseconds(times.get(str(size))) for size in sizes]
        exponent = growth["exponent_4k_to_64k"].get(name)
        lines.append(f"| `{name}` | {' | '.join(cells)} | {'' if exponent is None else f'{exponent:.2f}'} |")
    return lines


def memory_table(found: dict[str, Any]) -> list[str]:
    """Return the table of extra memory."""
    lines = ["| mechanism | 4,096 tokens | 65,536 tokens |", "|---|---:|---:|"]
    for name in MECHANISMS:
        cells = [found["memory"][name].get(size) for size in ("4096", "65536")]
        lines.append(f"| `{name}` | {' | '.join('' if cell is None else f'{cell:.1f}' for cell in cells)} |")
    return lines


def comparison_lines(found: dict[str, Any]) -> list[str]:
    """Return the other figures as sentences."""
    norm, soft, local, pruned = found["sequence_norm"], found["soft"], found["local"], found["adaptive"]["none"]
    over = ", ".join(f"{format_ratio(value)} times at {int(size):,}" for size, value in norm["over_softmax"].items())
    plain = ", ".join(f"{format_ratio(value)} at {int(size):,}" for size, value in norm["over_plain"].items())
    trained = ", ".join(
        f"{format_ratio(value)} times at {int(size):,}" for size, value in norm["training_over_softmax_c192"].items()
    )
    errors = {key: value for key, value in found["errors"].items() if isinstance(value, dict)}
    error = ", ".join(f"{e['ours']:.1g} against {e['plain']:.1g} ({mean})" for mean, e in errors.items())
    published = ", ".join(
        f"{format_ratio(value)} times at {int(size):,}" for size, value in soft["over_published"].items()
    )
    halves = ", ".join(
        f"{format_ratio(value)} times at {float(k):.0%}" for k, value in pruned["faster_than_dense"].items()
    )
    macs = ", ".join(f"{format_ratio(value)} at {float(k):.0%}" for k, value in pruned["fewer_macs"].items())
    memory = found["memory"]
    lines = [
        f"- `sequence_norm` over the fused softmax block, C = 384: {over} tokens; over its own plain form: {plain}.",
        f"- `sequence_norm`, forward and backward over softmax, C = 192: {trained} tokens.",
        f"- `sequence_norm`, relative error in float32 for a channel mean of so many standard deviations: {error}; "
        f"gradients within {found['errors']['gradients against the plain form']:.0e} of the plain form.",
        f"- `kv_pos` over `kv` at 1,024 tokens, time: {found['key_value']['evaluation']:.2f} in evaluation, "
        f"{found['key_value']['training']:.2f} in training.",
        f"- `soft` with the Cholesky inverse over its published algorithm, projections included: {published} tokens. "
        f"Error of the inverse at a condition of 1e4: {soft['error of cholesky at condition 1e4']:.0e}, "
        f"20 Newton steps {soft['error of newton at condition 1e4']:.2f}.",
        f"- `local`, 56 x 56 x 64, two heads, 7 x 7: {local['over_unfolding']:.0f} times faster than unfolding "
        f"({local['window_over_unfolding']:.0f} without projections); {local['window_over_convolution']:.1f} times the "
        f"time of a 3 x 3 convolution ({local['layer_over_convolution']:.1f} with projections). Extra memory at "
        f"256 x 256 x 64: {memory['local 256x256x64']:.1f} times the input.",
        f"- `adaptive` at 4,096 tokens, so much of queries and keys kept, over dense: {halves}; "
        f"multiply-accumulates fall by {macs}.",
    ]
    whole = memory.get("sequence_norm 1,048,576 tokens, C = 192, all in all, GiB")
    if whole is not None:
        lines.append(
            f"- A `sequence_norm` layer of 1,048,576 tokens, C = 192, takes {whole:.2f} GiB, input and output included."
        )
    return lines


def mechanisms_page(found: dict[str, Any]) -> str:
    """Return the page."""
    lines = [
        "# Mechanisms",
        "",
        "This page is written by `benchmarks/mechanisms_page.py` from the notes of the mechanisms and from the measurements "
        "of `benchmarks/attention.py`; do not edit it.",
        "",
        "Every mechanism maps tokens to tokens as `project(merge_heads(A(x) V(x)))`. Mechanisms differ in A and in the order "
        "in which the product is evaluated. Each has a `forward`, a `dense_form` that is its definition, and a closed form of "
        "its `cost`; the tests compare the three.",
        "",
        "## Time",
        "",
        f"Milliseconds of CPU time, one thread, float32, whole layer with its projections, C = {found['growth']['dim']}, "
        f"{found['growth']['heads']} heads, evaluation, lower quartile of interleaved rounds on {found['processor']}, torch "
        f"{found['torch']}. Machines differ: compare within a column. Quadratic mechanisms end where a call takes too long.",
        "",
        *growth_table(found),
        "",
        "## Memory",
        "",
        "Growth of the peak memory of a fresh process during one call, divided by the size of the input. The output alone is "
        "1.0.",
        "",
        *memory_table(found),
        "",
        "## Comparisons",
        "",
        *comparison_lines(found),
        "",
    ]
    for name in MECHANISMS:
        note = MECHANISMS[name].note
        assert note is not None
        half = found["half_precision"][name]
        lines += [
            f"## {name}",
            "",
            f"`--attention {name}` · {note.source}",
            "",
            f"    {note.equation}",
            "",
            f"**Cost in multiply-accumulates:** {note.cost}.",
            "",
            f"**Use.** {note.use}",
            "",
            f"**Departures.** {note.departures}",
            "",
            "**Half precision.** Forward and backward under autocast are "
            + "; ".join(f"{'finite' if fine else 'not finite'} in {key}" for key, fine in half.items())
            + " tokens.",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, help="output of attention.py")
    options = parser.parse_args()
    write_text(PAGE, mechanisms_page(json.loads(options.measured.read_text())))
    print(PAGE)


if __name__ == "__main__":
    main()
