"""``gossamer quantize``: a run or a bundle as a bundle in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gossamer.api.environment import require_training_packages, set_torch_threads
from gossamer.cli.output import Answer, Common, progress, say
from gossamer.errors import ErrorCode, GossamerError

if TYPE_CHECKING:
    from rich.table import Table

    from gossamer.quantization.accuracy_loss import AccuracyLoss
    from gossamer.quantization.quantize import QuantizationOutcome

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8", "asimd"}
"""Instruction sets that add products of 8 bits without overflow."""


def quantize(
    source: Path,
    /,
    *,
    out: Path,
    max_drop: float = 0.005,
    metric: str | None = None,
    data: Path | None = None,
    rung: Literal["dynamic", "static", "mixed"] | None = None,
    range: Literal["minmax", "percentile"] = "minmax",
    images: int = 256,
    keep_ends: bool = False,
    sensitivities: bool = False,
    weight_bits: Literal[7, 8] | None = None,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Write a run or a bundle as a bundle in 8 bits, if it loses little.

    Weights of convolutions and matrix products become int8 after training; LayerNorm, softmax, GELU and statistics over
    tokens stay in floating point. Rungs are tried in the order dynamic, static, mixed precision until the metric drops
    by MAX_DROP at most on the validation split; calibration sees the training split, and the test split is reported
    once. If no rung does, nothing is written but OUT.report, and the command fails.

    Example: gossamer quantize runs/chest --out bundles/chest-int8 --max-drop 0.005
    Example: gossamer quantize bundles/chest --data chest/ --out bundles/chest-int8

    Args:
        source: folder of a run, or a bundle in float32.
        out: a new or empty folder.
        max_drop: by how much the metric may get worse on the validation split.
        metric: that may drop; auroc of classification and dice of segmentation if left out.
        data: where the training data lie; a bundle does not know, a run knows where it found them.
        rung: the only one to try.
        range: of activations: all that calibration met, or all but the outermost values.
        images: or windows of the training split to calibrate with, 128 or more.
        keep_ends: keep the first layer and the last in floating point.
        sensitivities: measure and plot those of all layers even where mixed precision is not needed.
        weight_bits: 7 for processors that add products of 8 bits with overflow; 8 where this one does not, if left out.
        licence_weights: of a run: under which the weights may be used, for the card.
        licence_data: of a run: under which the training data may be used, for the card.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_training_packages("quantize")
    used = set_torch_threads(threads)
    from gossamer.profiling.machine import instruction_sets
    from gossamer.quantization.quantize import QuantizationOptions
    from gossamer.quantization.quantize import quantize_source as climb
    from gossamer.quantization.quantize_onnx import QuantizerSettings
    from gossamer.quantization.source import open_quantization_source
    from gossamer.quantization.write import write_quantized_bundle
    from gossamer.report.quantization import report_folder, write_report

    bits = weight_bits or (8 if VNNI & set(instruction_sets()) else 7)
    options = QuantizationOptions(
        max_drop=max_drop,
        metric=metric,
        rung=rung,
        scheme=QuantizerSettings(range=range, reduce_range=bits == 7),
        images=images,
        keep_ends=keep_ends,
        sensitivities=sensitivities,
    )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GossamerError(ErrorCode.OUTPUT, out, "exists and is not an empty folder", "give another --out")
    licences = {"licence_weights": licence_weights, "licence_data": licence_data}
    with (
        progress("quantizing") as tick,
        open_quantization_source(
            source, data, used, **licences, metric=metric, on_stage=say, on_progress=tick
        ) as opened,
    ):
        outcome = climb(opened, options, on_stage=say, on_step=lambda step: say(str(step)), on_progress=tick)
        written = write_report(report_folder(out), outcome)
        if outcome.result is None:
            raise _not_met(outcome, written[0])
        manifest = write_quantized_bundle(out, opened, outcome, on_stage=say)
    answer = {"source": str(source), "out": str(out), "report": str(report_folder(out)), **outcome.to_json()}
    return Answer({**answer, "manifest": manifest.to_json()}, _table(outcome, out))


def _not_met(outcome: QuantizationOutcome, report: Path) -> GossamerError:
    from gossamer.quantization.accuracy_loss import words_for_worsening

    tried, noun = "; ".join(str(step) for step in outcome.steps), words_for_worsening(outcome.metric)[0]
    rung = "no rung keeps" if outcome.options.rung is None else f"the {outcome.options.rung} rung does not keep"
    problem = f"{rung} the {noun} of {outcome.metric} within {outcome.options.max_drop:g} ({tried})"
    remedy = f"see {report}; allow more with --max-drop, or train longer"
    return GossamerError(ErrorCode.VALUE, "quantize", problem, remedy)


def _table(outcome: QuantizationOutcome, out: Path) -> Table:
    """Return what a reader should know of the bundle."""
    from rich.table import Table

    from gossamer.quantization.schemes import describe_kept_layers

    result = outcome.result
    assert result is not None
    table = Table(box=None, pad_edge=False, show_header=False, title_justify="left", caption_justify="left")
    table.title = f"wrote {out}"
    table.caption = f"run it: gossamer predict {out} IMAGES"
    kept = f", {describe_kept_layers(len(result.candidate.kept))}" if result.candidate.kept else ""
    table.add_row("rung", f"{result.candidate.rung}{kept}")
    counts = ", ".join(f"{result.proof.quantized.get(k, 0)} of {n} {k}" for k, n in result.proof.before.items())
    table.add_row(
        "in 8 bits", f"{counts}; {result.proof.macs:.1%} of their work, {result.proof.weights:.1%} of the weights"
    )
    table.add_row("validation", _loss(result.validation))
    table.add_row("test", "there is no test split" if result.test is None else _loss(result.test))
    size = len(result.candidate.model)
    table.add_row("file", f"{size / 2**20:.2f} MiB, {size / outcome.float32_bytes:.3f} of float32")
    for speed in result.speeds:
        table.add_row("speed", str(speed))
    for note in outcome.notes:
        table.add_row("note", str(note))
    return table


def _loss(found: AccuracyLoss) -> str:
    loss = f"{found.metric} {found.float32:.4f} to {found.int8:.4f}, {found.worse}"
    return f"{loss}; signal to noise {found.sqnr_db:.1f} dB, {found.flips:.2%} decided otherwise"
