"""The model card of a bundle: its ``README.md``, written from the manifest alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gossamer.data.transforms import (
    Channels,
    FitWithin,
    Pad,
    Preprocessing,
    Resize,
    Respace,
    ScaleIntensity,
    Standardize,
    StandardizeEach,
)
from gossamer.evaluation.classification_metrics import METRICS
from gossamer.evaluation.segmentation_metrics import MASK_METRICS
from gossamer.exporting.tasks import EXPORT_TASKS
from gossamer.inference.manifest import Manifest
from gossamer.profiling.figure import FIGURE_LABELS, format_quantity

_COSTS = ("file", "latency_p50", "latency_p95", "peak_memory", "forward_memory")
_QUANTIZATION = {
    "rung": "scheme",
    "products": "products with weights in the float32 network",
    "products_in_int8": "products in int8",
    "products_in_float32": "layers kept in float32",
    "executed_by_onnxruntime_here": "int8 operators that ONNX Runtime executes on the machine that quantized",
    "share_of_weights": "share of the weights in int8",
    "share_of_macs": "share of the work in int8",
    "bytes": "size of the graph",
    "speed": "speed on the machine that quantized",
}


def render_card(manifest: Manifest) -> str:
    """Return the model card as Markdown."""
    parts = (
        _render_opening(manifest),
        _render_input(manifest),
        _render_output(manifest),
        _render_quality(manifest),
        _render_parity(manifest),
        _render_cost(manifest),
        _render_quantization(manifest),
        _render_origin(manifest),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def describe_step(step: Any) -> str:
    """Return the effect of a preprocessing step as a sentence."""
    match step:
        case Channels():
            text = "grey is repeated for colour, and colour with equal channels becomes grey"
            return f"{_describe_channels(step.count)}; {text}."
        case ScaleIntensity():
            stored = f" Images of a type other than {step.stored} are refused." if step.stored else ""
            return f"Stored values {step.low:g} to {step.high:g} become 0 to 1; values outside are clipped.{stored}"
        case Resize():
            return f"Resampled to {step.rows}x{step.columns} pixels (rows x columns)."
        case FitWithin():
            return f"Resampled to the largest size within {step.rows}x{step.columns} pixels that keeps proportions."
        case Respace():
            unknown = "an image without spacing is refused" if step.required else "an image without spacing is kept"
            spacing = f"{step.rows_mm:g} mm between rows and {step.columns_mm:g} mm between columns"
            return f"Resampled to {spacing}, unless the spacing is within {step.tolerance:g} of that; {unknown}."
        case Pad():
            return f"Centred in {step.rows}x{step.columns} pixels with a border of {step.value:g}."
        case Standardize():
            return (
                f"Minus {step.mean:g}, then divided by {step.std:g}: mean and standard deviation of the training data."
            )
        case StandardizeEach():
            each = "slice" if step.over == "slice" else "image or volume"
            clipped = f"Values below percentile {step.percent:g} or above percentile {100 - step.percent:g} are clipped"
            return f"{clipped} in each {each}, which then gets mean 0 and standard deviation 1."
    return f"{step!r}."


def _render_opening(manifest: Manifest) -> Iterator[str]:
    task = EXPORT_TASKS[manifest.task]
    attention = f" with {manifest.attention} attention" if manifest.attention else ""
    yield f"# {manifest.preset}{attention}, {manifest.precision}"
    yield ""
    yield f"{task.PURPOSE}: {', '.join(manifest.output.classes)}. It runs without PyTorch, with the package gossamer:"
    yield ""
    yield "```"
    yield f"gossamer predict BUNDLE images/ --out {task.PREDICT_OUTPUT}"
    yield "```"
    yield ""
    yield "BUNDLE is this folder. Copy it as a whole: a bundle with a changed, missing or additional file is refused."
    yield ""
    yield "## Intended use"
    yield ""
    yield "For research only. This is not a medical device, it has not been assessed for clinical use, and no decision"
    yield "about a patient may be based on it. Its quality was measured on data like the training data. Before use on"
    yield "images of another scanner, protocol or population, measure the quality there:"
    yield "`gossamer evaluate BUNDLE DATA --split all`. It returns a result for any image, whatever it shows, and does"
    yield "not recognize classes that it was not trained on."
    yield ""


def _render_input(manifest: Manifest) -> Iterator[str]:
    spec = manifest.input
    channels = _describe_channels(spec.channels)
    yield "## Input"
    yield ""
    yield f"- {channels}, stored as {spec.stored}" if spec.stored else f"- {channels}, of any stored type"
    window = f"{spec.window[0]}x{spec.window[1]} pixels (rows x columns)"
    yield from EXPORT_TASKS[manifest.task].describe_input(spec, window)
    sides = f"any multiple of {spec.multiple} for rows and columns" if spec.dynamic else "rows and columns of that size"
    yield f"- `model.onnx` takes `images` (batch, {spec.channels * spec.stack}, rows, columns): {sides}, float32"
    yield ""
    yield "Preprocessing that `gossamer predict` applies to an image:"
    yield ""
    for number, step in enumerate(Preprocessing.from_json(manifest.preprocessing).steps, start=1):
        yield f"{number}. {describe_step(step)}"
    yield ""


def _render_output(manifest: Manifest) -> Iterator[str]:
    yield "## Output"
    yield ""
    yield from EXPORT_TASKS[manifest.task].describe_output(manifest.output)
    yield ""


def _render_quality(manifest: Manifest) -> Iterator[str]:
    source, baseline = manifest.source, EXPORT_TASKS[manifest.task].TRIVIAL_BASELINE
    split = source.get("evaluated", "test")
    yield "## Quality"
    yield ""
    if not manifest.quality:
        yield "Not measured."
        yield ""
        return
    cases, groups = source.get("samples", {}).get(split, "?"), source.get("groups", "?")
    yield f"Measured on {cases} cases of the {split} split, with 95 % bootstrap intervals over {groups} patients (over"
    yield f"cases if patients are unknown), next to a trivial baseline: {baseline}."
    if split == "val":
        yield "**The validation split was used to choose the epoch, so these figures are optimistic.**"
    yield ""
    yield "| metric | value | 95 % interval | trivial |"
    yield "|---|---|---|---|"
    for key, found in manifest.quality.items():
        unit = f", {source['distance_unit']}" if key == "hd95" and "distance_unit" in source else ""
        value, low, high, trivial = (_format_decimal(found.get(name)) for name in ("value", "low", "high", "trivial"))
        yield f"| {_label_metric(key, unit)} | {value} | {low} to {high} | {trivial} |"
    yield ""


def _render_parity(manifest: Manifest) -> Iterator[str]:
    parity = manifest.parity
    yield "## Agreement with the trained network"
    yield ""
    if parity is None:
        yield "Not measured."
    else:
        equal = "all" if parity.decisions == 1 else f"{100 * parity.decisions:.4f} % of"
        yield f"Compared from file to result on {parity.images} images or volumes of the validation split. Largest"
        yield f"difference of a probability: {parity.probabilities:.2g}; of a logit: {parity.logits:.2g};"
        yield f"{equal} decisions are equal."
        if parity.tolerance is None:
            yield "The loss of quality was limited, not the difference of probabilities."
        else:
            yield f"Largest allowed difference of a probability: {parity.tolerance:g}."
    yield ""


def _render_cost(manifest: Manifest) -> Iterator[str]:
    yield "## Cost"
    yield ""
    machine = manifest.cost.get("machine")
    if isinstance(machine, Mapping):
        memory = machine.get("memory_bytes")
        size = f", {memory / 2**30:.0f} GiB of memory." if memory else "."
        yield f"On {machine.get('processor')}, {machine.get('usable_cpus')} CPUs{size}"
        yield ""
    yield "| figure | value | how | detail |"
    yield "|---|---|---|---|"
    for key in _COSTS:
        if (figure := manifest.cost.get(key)) is not None:
            value = format_quantity(figure["value"], figure["unit"])
            yield f"| {FIGURE_LABELS[key]} | {value} | {figure['how']} | {figure['detail']} |"
    yield ""


def _render_quantization(manifest: Manifest) -> Iterator[str]:
    if manifest.quantization is None:
        return
    yield "## Quantization"
    yield ""
    record = dict(manifest.quantization)
    splits = {key: found for key in ("validation", "test") if isinstance(found := record.pop(key, None), Mapping)}
    limit = record.pop("max_drop", None)
    for key, value in record.items():
        yield f"- {_QUANTIZATION.get(key, key.replace('_', ' '))}: {_format_record(key, value)}"
    yield ""
    if not splits:
        return
    yield "Degradation by int8, with the 95 % interval of the paired difference over patients (over samples if patients"
    allowed = "" if limit is None else f" Largest allowed degradation on the validation split: {limit:g}."
    yield f"are unknown).{allowed}"
    yield ""
    yield "| split | samples | groups | metric | float32 | int8 | degradation | signal to noise | changed predictions |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for split, found in splits.items():
        yield f"| {' | '.join((split, *_loss_cells(found)))} |"
    if "test" not in splits:
        yield ""
        yield "There is no test split."
    yield ""


def _loss_cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of the table row of an accuracy loss, without the split."""
    drop = found["drop"]
    value, low, high = (_format_decimal(drop[key], 4) for key in ("value", "low", "high"))
    return (
        f"{found['samples']}",
        f"{found['groups']}",
        _label_metric(found["metric"]),
        _format_decimal(found["float32"], 4),
        _format_decimal(found["int8"], 4),
        f"{value} ({low} to {high})",
        "–" if found["sqnr_db"] is None else f"{found['sqnr_db']:.1f} dB",
        f"{found['flips']:.2%}",
    )


def _format_record(key: str, value: Any) -> str:
    """Return a value in the record of a quantization as text: counts, sizes, shares and lists."""
    match value:
        case {"float32": before, "int8": after}:
            return f"{format_quantity(after, 'bytes')}, {format_quantity(before, 'bytes')} in float32"
        case Mapping():
            return ", ".join(f"{count} {name}" for name, count in value.items()) or "none"
        case list() | tuple():
            return ("; " if key == "speed" else ", ").join(str(item) for item in value) or "none"
        case float() if key.startswith("share"):
            return f"{value:.1%}"
    return "–" if value is None else str(value)


def _render_origin(manifest: Manifest) -> Iterator[str]:
    source, licence = manifest.source, manifest.licence
    samples = ", ".join(f"{count} {split}" for split, count in source.get("samples", {}).items())
    yield "## Licence"
    yield ""
    for subject in ("weights", "data"):
        unknown = "not stated: ask the person who gave you this bundle before you share it"
        yield f"- {subject}: {licence.get(subject) or unknown}"
    yield ""
    yield "## Origin"
    yield ""
    yield f"- trained on {source.get('name', 'unknown data')} ({samples}), seed {source.get('seed', 'unknown')}"
    yield f"- fingerprint of classes, samples, labels and splits: `{source.get('fingerprint', 'unknown')}`"
    yield f"- written {manifest.created} by Gossamer {manifest.gossamer}"


def _describe_channels(count: int) -> str:
    return {1: "One channel (grey)", 3: "Three channels (colour)"}.get(count, f"{count} channels")


def _label_metric(key: str, unit: str = "") -> str:
    """Return the name of a metric, with the remark that lower is better if it is."""
    name, larger_is_better = {**METRICS, **MASK_METRICS}.get(key, (key, True))
    return f"{name}{unit}" if larger_is_better else f"{name}{unit} (lower is better)"


def _format_decimal(value: float | None, places: int = 3) -> str:
    return "–" if value is None else f"{value:.{places}f}"
