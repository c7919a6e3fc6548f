"""``gossamer.export``: a trained run as a bundle that runs without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.api.environment import torch_threads
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments
from gossamer.exporting.write import write_bundle
from gossamer.inference.manifest import Manifest
from gossamer.profiling.figure import format_quantity
from gossamer.progress import Progress
from gossamer.summary import Result, SummaryTable


@dataclass(frozen=True, repr=False)
class ExportedBundle(Result):
    """A bundle that was written from a run.

    Attributes:
        run: Folder of the run.
        path: Folder of the bundle.
        manifest: Content of its manifest.
    """

    run: Path
    path: Path
    manifest: Manifest

    def to_dict(self) -> dict[str, Any]:
        """Return the paths and the manifest as data."""
        return {"run": str(self.run), "out": str(self.path), "manifest": self.manifest.to_json()}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the network, its input, parity, cost and licences as one table."""
        spec, parity, cost = self.manifest.input, self.manifest.parity, self.manifest.cost
        assert parity is not None
        attention = f" with {self.manifest.attention}" if self.manifest.attention else ""
        sizes = f"any multiple of {spec.multiple}" if spec.dynamic else "this size only"
        difference = f"probabilities within {parity.probabilities:.2g}, logits within {parity.logits:.2g}"
        rows = [
            ("network", f"{self.manifest.preset}{attention}"),
            ("input", f"{spec.channels * spec.stack} channels of {spec.window[0]}x{spec.window[1]}, {sizes}"),
            ("parity", f"{difference}, {parity.decisions:.4%} of decisions equal, on {parity.images} images"),
        ]
        for name, label in (("file", "size"), ("latency_p50", "latency, median"), ("peak_memory", "peak memory")):
            figure = cost[name]
            rows.append((label, f"{format_quantity(figure['value'], figure['unit'])}, {figure['detail']}"))
        for subject, licence in self.manifest.licence.items():
            rows.append((f"licence of {subject}", licence or f"not stated: set licence_{subject}"))
        caption = f"run it: gossamer predict {self.path} IMAGES"
        return (SummaryTable(f"wrote {self.path}", ("", ""), tuple(rows), caption),)


@checked_arguments
def export(
    run: str | Path,
    out: str | Path,
    *,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    data: str | Path | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> ExportedBundle:
    """Write a trained run as a bundle that runs without PyTorch.

    The bundle is compared with PyTorch on images of the validation split, from file to result. If they differ, nothing
    is written. Latency and memory are measured on this machine.

    Example:
        >>> bundle = gossamer.export("runs/chest", "bundles/chest", licence_weights="CC-BY-4.0")  # doctest: +SKIP
        >>> bundle.manifest.parity.probabilities  # doctest: +SKIP

    Args:
        run: Folder of a finished run.
        out: Folder of the bundle, new or empty.
        licence_weights: Licence of the weights, for the model card.
        licence_data: Licence of the training data, for the model card.
        data: Current folder of the training data (default: the folder in the config of the run).
        threads: Number of CPU threads (default: all available).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Raises:
        GossamerError: The run is not finished, cannot be exported, its data have changed, or the bundle does not give
            the results of the run; the bundle is then not written.
    """
    with torch_threads(threads) as used:
        manifest = write_bundle(
            Path(run),
            Path(out),
            licence_weights=licence_weights,
            licence_data=licence_data,
            data=None if data is None else Path(data),
            threads=used,
            progress=choose_progress(progress),
        )
    return ExportedBundle(Path(run), Path(out), manifest)
