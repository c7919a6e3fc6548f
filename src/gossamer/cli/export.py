"""``gossamer export``: a run as a bundle that runs without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.api.environment import require_training_packages, set_torch_threads
from gossamer.cli.output import Answer, Common, progress, say

if TYPE_CHECKING:
    from rich.table import Table

    from gossamer.inference.manifest import Manifest


def export(
    run: Path,
    /,
    *,
    out: Path,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    data: Path | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Write a trained run as a bundle that runs without PyTorch.

    OUT gets model.onnx, manifest.json and README.md, a model card. The bundle is run on images of the run's validation
    split and compared with PyTorch from file to result; where they differ, nothing is written, and the command says on
    which image and at which stage. Latency and memory are measured on this machine.

    Example: gossamer export runs/chest --out bundles/chest --licence-weights CC-BY-4.0 --licence-data "CC BY 4.0"

    Args:
        run: folder of a run that has come to its end.
        out: a new or empty folder.
        licence_weights: under which the weights may be used, for the card.
        licence_data: under which the training data may be used, for the card.
        data: where the training data lie now; where the run found them if left out.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_training_packages("export")
    used = set_torch_threads(threads)
    from gossamer.exporting.write import write_bundle

    with progress("comparing") as tick:
        manifest = write_bundle(
            run,
            out,
            licence_weights=licence_weights,
            licence_data=licence_data,
            data=data,
            threads=used,
            on_stage=say,
            on_progress=tick,
        )
    return Answer({"run": str(run), "out": str(out), "manifest": manifest.to_json()}, _table(manifest, out))


def _table(manifest: Manifest, out: Path) -> Table:
    """Return what the reader should know of the bundle."""
    from rich.table import Table

    from gossamer.profiling.figure import format_quantity

    table = Table(box=None, pad_edge=False, show_header=False, title_justify="left", caption_justify="left")
    table.title = f"wrote {out}"
    table.caption = f"run it: gossamer predict {out} IMAGES"
    spec, parity, cost = manifest.input, manifest.parity, manifest.cost
    assert parity is not None
    sizes = f"any multiple of {spec.multiple}" if spec.dynamic else "this size alone"
    table.add_row("network", f"{manifest.preset}{f' with {manifest.attention}' if manifest.attention else ''}")
    table.add_row("input", f"{spec.channels * spec.stack} channels of {spec.window[0]}x{spec.window[1]}, {sizes}")
    agreed = f"probabilities within {parity.probabilities:.2g}, logits within {parity.logits:.2g}"
    table.add_row("parity", f"{agreed}, {parity.decisions:.4%} of decisions equal, on {parity.images} images")
    for name, label in (("file", "size"), ("latency_p50", "latency, median"), ("peak_memory", "peak memory")):
        table.add_row(label, f"{format_quantity(cost[name]['value'], cost[name]['unit'])}, {cost[name]['detail']}")
    for what, text in manifest.licence.items():
        table.add_row(f"licence of {what}", text or "not stated: --licence-" + what)
    return table
