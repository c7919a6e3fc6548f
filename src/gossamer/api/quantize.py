"""``gossamer.quantize``: a run or a float32 bundle as an int8 bundle within an accuracy limit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gossamer.api.environment import torch_threads
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments
from gossamer.checks import require
from gossamer.files import require_free_folder
from gossamer.inference.manifest import Manifest
from gossamer.profiling.machine import instruction_sets
from gossamer.progress import Progress
from gossamer.quantization.accuracy_loss import AccuracyLoss
from gossamer.quantization.outcome import LimitNotMetError, QuantizationOptions, QuantizationOutcome
from gossamer.quantization.quantize import quantize_source
from gossamer.quantization.quantize_onnx import ActivationRange, QuantizerSettings
from gossamer.quantization.schemes import SchemeName, describe_kept_layers
from gossamer.quantization.source import open_quantization_source, write_quantized_bundle
from gossamer.report.quantization import report_folder, write_report
from gossamer.summary import Result, SummaryTable

__all__ = ["LimitNotMetError", "QuantizationResult", "quantize"]

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8", "asimd"}
"""Instruction sets that add int8 products without overflow."""


@dataclass(frozen=True, repr=False)
class QuantizationResult(Result):
    """An int8 bundle that was written, with what quantization cost and saved.

    Attributes:
        source: Folder of the run or of the float32 bundle.
        path: Folder of the int8 bundle.
        report: Folder of the report.
        outcome: Tried schemes, accuracy loss, verification and speed.
        manifest: Content of the manifest of the bundle.
    """

    source: Path
    path: Path
    report: Path
    outcome: QuantizationOutcome
    manifest: Manifest

    def to_dict(self) -> dict[str, Any]:
        """Return the paths, the outcome and the manifest as data."""
        paths = {"source": str(self.source), "out": str(self.path), "report": str(self.report)}
        return {**paths, **self.outcome.to_json(), "manifest": self.manifest.to_json()}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return scheme, accuracy loss, size and speed as one table."""
        chosen = self.outcome.chosen
        assert chosen is not None
        kept = f", {describe_kept_layers(len(chosen.candidate.kept))}" if chosen.candidate.kept else ""
        found, size = chosen.verification, len(chosen.candidate.model)
        counts = ", ".join(f"{found.quantized.get(kind, 0)} of {count} {kind}" for kind, count in found.before.items())
        rows = (
            ("scheme", f"{chosen.candidate.scheme}{kept}"),
            ("in int8", f"{counts}; {found.macs:.1%} of their work, {found.weights:.1%} of the weights"),
            ("validation", _describe_loss(chosen.validation)),
            ("test", "no test split" if chosen.test is None else _describe_loss(chosen.test)),
            ("file", f"{size / 2**20:.2f} MiB, {size / self.outcome.float32_bytes:.3f} of float32"),
            *(("speed", str(speed)) for speed in chosen.speeds),
            *(("note", str(note)) for note in self.outcome.notes),
        )
        caption = f"run it: gossamer predict {self.path} IMAGES"
        return (SummaryTable(f"wrote {self.path}", ("", ""), rows, caption),)


@checked_arguments
def quantize(
    source: str | Path,
    out: str | Path,
    *,
    max_drop: float = 0.005,
    metric: str | None = None,
    data: str | Path | None = None,
    scheme: SchemeName | None = None,
    range: ActivationRange = "minmax",
    images: int = 256,
    keep_ends: bool = False,
    sensitivities: bool = False,
    weight_bits: Literal[7, 8] | None = None,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> QuantizationResult:
    """Quantize a run or a bundle to int8 within an accuracy limit.

    Weights of convolutions and matrix products become int8 after training; LayerNorm, softmax, GELU and statistics over
    tokens stay in float32. The schemes dynamic, static and mixed precision are tried in this order until the metric
    drops by at most ``max_drop`` on the validation split. Calibration uses the training split, and the test split is
    used once, for the chosen scheme.

    Example:
        >>> result = gossamer.quantize("runs/chest", "bundles/chest-int8", max_drop=0.005)  # doctest: +SKIP
        >>> result.outcome.chosen.validation.drop.value  # doctest: +SKIP

    Args:
        source: Folder of a run, or of a float32 bundle.
        out: Folder of the int8 bundle, new or empty.
        max_drop: Largest allowed degradation of the metric on the validation split, 0 or more.
        metric: Metric whose degradation is limited (default: ``auroc`` for classification, ``dice`` for segmentation).
        data: Folder of the training data (default: the folder in the config of a run; required for a bundle).
        scheme: Only scheme to try: ``dynamic``, ``static`` or ``mixed`` (default: all, in this order).
        range: Range of activations: ``minmax``, or ``percentile`` to clip outliers.
        images: Number of calibration images or windows of the training split, 128 or more.
        keep_ends: Whether the first and the last layer stay in float32.
        sensitivities: Whether to measure and plot the sensitivity of all layers even if mixed precision is not needed.
        weight_bits: Bits of the weights: 7 for processors on which sums of int8 products overflow, else 8 (default:
            chosen for this processor).
        licence_weights: Licence of the weights of a run, for the model card.
        licence_data: Licence of the training data of a run, for the model card.
        threads: Number of CPU threads (default: all available).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Raises:
        LimitNotMetError: No scheme stays within the limit; only the report, ``<out>.report``, was written.
        GossamerError: The source, its data or an option cannot be used.
    """
    source, out = Path(source), Path(out)
    require(weight_bits in (None, 7, 8), "weight_bits", f"{weight_bits!r} is not allowed", "use 7 or 8")
    bits = weight_bits or (8 if VNNI & set(instruction_sets()) else 7)
    options = QuantizationOptions(
        max_drop=max_drop,
        metric=metric,
        scheme=scheme,
        settings=QuantizerSettings(range=range, reduce_range=bits == 7),
        images=images,
        keep_ends=keep_ends,
        sensitivities=sensitivities,
    )
    require_free_folder(out)
    shown = choose_progress(progress)
    with (
        torch_threads(threads) as used,
        open_quantization_source(
            source,
            None if data is None else Path(data),
            used,
            licence_weights=licence_weights,
            licence_data=licence_data,
            metric=metric,
            progress=shown,
        ) as network,
    ):
        outcome = quantize_source(network, options, progress=shown)
        report, *_ = write_report(report_folder(out), outcome)
        if outcome.chosen is None:
            raise LimitNotMetError(outcome, report)
        manifest = write_quantized_bundle(out, network, outcome, progress=shown)
    return QuantizationResult(source, out, report_folder(out), outcome, manifest)


def _describe_loss(found: AccuracyLoss) -> str:
    return f"{found.metric} {found.float32:.4f} to {found.int8:.4f}, {found.drop_text}; {found.noise_text}"
