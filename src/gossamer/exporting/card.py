"""The model card of a bundle: its ``README.md``, written from the manifest and from nothing else."""

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
from gossamer.inference.manifest import Manifest

_COST = {
    "file": "Size",
    "latency_p50": "Latency of the network, median",
    "latency_p95": "Latency of the network, 95th percentile",
    "peak_memory": "Peak memory of a process",
    "forward_memory": "Of that, added by calls",
}
_QUANTIZATION = {
    "products": "products with weights, in float32",
    "products_in_int8": "of them in 8 bits",
    "products_in_float32": "layers kept in floating point",
    "executed_by_onnxruntime_here": "operators of 8 bits that ONNX Runtime executes on the machine that quantized",
    "share_of_weights": "share of the weights in 8 bits",
    "share_of_macs": "share of the work in 8 bits",
    "bytes": "size of the graph",
    "speed": "speed on the machine that quantized",
}


def render_card(manifest: Manifest) -> str:
    """Return the model card as Markdown."""
    parts = (
        _opening(manifest),
        _input(manifest),
        _output(manifest),
        _quality(manifest),
        _parity(manifest),
        _cost(manifest),
        _quantization(manifest),
        _origin(manifest),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def describe_step(step: Any) -> str:
    """Return what a step of a preprocessing does, in a sentence."""
    match step:
        case Channels():
            return f"{_channels(step.count)}; grey is repeated for colour, colour with equal channels becomes grey."
        case ScaleIntensity():
            stored = f" Images of another type than {step.stored} are refused." if step.stored else ""
            return f"Stored values {step.low:g} to {step.high:g} become 0 to 1; what lies beyond is clipped.{stored}"
        case Resize():
            return f"Resampled to {step.rows}x{step.columns} pixels (rows x columns)."
        case FitWithin():
            return f"Resampled to the largest size within {step.rows}x{step.columns} pixels that keeps proportions."
        case Respace():
            unknown = "an image without spacing is refused" if step.required else "an image without spacing is kept"
            apart = f"{step.rows_mm:g} mm down and {step.columns_mm:g} mm across"
            return f"Resampled so that pixels lie {apart} apart, unless they do within {step.tolerance:g}; {unknown}."
        case Pad():
            return f"Centred in {step.rows}x{step.columns} pixels, the border {step.value:g}."
        case Standardize():
            return f"{step.mean:g} is subtracted, and the rest divided by {step.std:g}: mean and deviation in training."
        case StandardizeEach():
            each = "slice" if step.over == "slice" else "image or volume"
            clipped = f"values beyond the percentiles {step.percent:g} and {100 - step.percent:g} are clipped"
            return f"Of each {each} by itself {clipped}, then it gets mean 0 and standard deviation 1."
    return f"{step!r}."


def _opening(manifest: Manifest) -> Iterator[str]:
    verb = "classifies images" if manifest.task == "classify" else "segments images"
    out = "predictions.csv" if manifest.task == "classify" else "masks/"
    attention = f" with {manifest.attention} attention" if manifest.attention else ""
    yield f"# {manifest.preset}{attention}, {manifest.precision}"
    yield ""
    yield f"A network that {verb}: {', '.join(manifest.output.classes)}. It runs without PyTorch."
    yield ""
    yield "```"
    yield "pip install gossamer"
    yield f"gossamer predict BUNDLE images/ --out {out}"
    yield "```"
    yield ""
    yield "BUNDLE is this folder. Copy it whole: a file that is changed, missing or added is refused."
    yield ""
    yield "## What it is for, and what not"
    yield ""
    yield "For research. It is not a medical device, nobody has assessed it for use on patients, and no decision about"
    yield "a patient may rest on it. Its quality was measured on data like those of its training; on images of another"
    yield "scanner, protocol or population measure it first: `gossamer evaluate BUNDLE DATA --split all`. It always"
    yield "answers, whatever an image shows, and does not know what it was not trained on."
    yield ""


def _input(manifest: Manifest) -> Iterator[str]:
    spec = manifest.input
    yield "## Input"
    yield ""
    yield f"- {_channels(spec.channels)}" + (f", stored as {spec.stored}" if spec.stored else ", of any stored type")
    if manifest.task == "segment":
        if spec.stack > 1:
            yield f"- volumes slice by slice, each with its {spec.stack - 1} neighbours, or flat images"
        yield f"- of any size, seen through windows of {_window(manifest)} that overlap by {spec.overlap:.0%} at least"
    else:
        yield f"- of any size; the network sees {_window(manifest)}"
    sides = f"any multiple of {spec.multiple} for rows and columns" if spec.dynamic else "rows and columns of that size"
    yield f"- `model.onnx` takes `images` (batch, {spec.channels * spec.stack}, rows, columns): {sides}, float32"
    yield ""
    yield "What `gossamer predict` does with an image before the network sees it:"
    yield ""
    for number, step in enumerate(Preprocessing.from_json(manifest.preprocessing).steps, start=1):
        yield f"{number}. {describe_step(step)}"
    yield ""


def _output(manifest: Manifest) -> Iterator[str]:
    output = manifest.output
    yield "## Output"
    yield ""
    if manifest.task == "segment":
        if output.multi_label:
            yield "A sigmoid for each class; a pixel has every class whose probability is above one half."
        else:
            yield "A softmax over the background (logit 0) and the classes in the order above; the most probable wins."
        yield "Masks have the size, geometry and format of the image."
    elif output.multi_label:
        yield "A sigmoid for each class; an image has every class whose probability is above its threshold."
    else:
        yield "A softmax over the classes in the order above; the most probable wins."
    thresholds = output.thresholds
    if thresholds is not None:
        rule = "F1" if thresholds["rule"] == "f1" else "sensitivity + specificity - 1"
        yield ""
        if output.multi_label:
            yield f"Thresholds, where {rule} was largest on the validation split:"
        else:
            yield "The threshold below decides nothing: `gossamer evaluate` reports sensitivity, specificity and F1 of"
            yield f"the label at it. It lies where {rule} was largest on the validation split:"
        yield ""
        yield "| label | threshold |"
        yield "|---|---|"
        yield from (
            f"| {label} | {value:.4g} |"
            for label, value in zip(thresholds["labels"], thresholds["values"], strict=True)
        )
    yield ""


def _quality(manifest: Manifest) -> Iterator[str]:
    source = manifest.source
    nothing = "the class frequencies" if manifest.task == "classify" else "nothing at all"
    split = source.get("evaluated", "test")
    yield "## Quality"
    yield ""
    if not manifest.quality:
        yield "Not measured."
        yield ""
        return
    cases, groups = source.get("samples", {}).get(split, "?"), source.get("groups", "?")
    yield f"Of {cases} cases of the {split} split, with 95 % bootstrap intervals over {groups} patients (cases, where"
    yield f"patients are unknown), beside the trivial answer: {nothing}."
    if split == "val":
        yield "**The validation split chose the epoch, so these figures are optimistic.**"
    yield ""
    yield "| metric | value | 95 % interval | trivial |"
    yield "|---|---|---|---|"
    names = {**METRICS, **MASK_METRICS}
    for key, found in manifest.quality.items():
        name, higher = names.get(key, (key, True))
        unit = f", {source['distance_unit']}" if key == "hd95" and "distance_unit" in source else ""
        label = f"{name}{unit}" if higher else f"{name}{unit} (lower is better)"
        interval = f"{_decimal(found.get('low'))} to {_decimal(found.get('high'))}"
        yield f"| {label} | {_decimal(found.get('value'))} | {interval} | {_decimal(found.get('trivial'))} |"
    yield ""


def _parity(manifest: Manifest) -> Iterator[str]:
    parity = manifest.parity
    yield "## Agreement with the trained network"
    yield ""
    if parity is None:
        yield "Not measured."
    else:
        images = f"{parity.images} images or volumes of the validation split"
        yield f"Compared from file to result on {images}: probabilities differ by {parity.probabilities:.2g} at most,"
        yield f"logits by {parity.logits:.2g}, and {_share(parity.decisions)} decisions are equal."
        if parity.tolerance is None:
            yield "No difference of a probability was asked for: a loss of quality was limited instead."
        else:
            yield f"A probability was allowed to differ by {parity.tolerance:g}."
    yield ""


def _cost(manifest: Manifest) -> Iterator[str]:
    yield "## Cost"
    yield ""
    machine = manifest.cost.get("machine")
    if isinstance(machine, Mapping):
        memory = machine.get("memory_bytes")
        yield f"On {machine.get('processor')}, {machine.get('usable_cpus')} processors" + (
            f", {memory / 2**30:.0f} GiB of memory." if memory else "."
        )
        yield ""
    yield "| figure | value | how | |"
    yield "|---|---|---|---|"
    for key, label in _COST.items():
        if (figure := manifest.cost.get(key)) is not None:
            value = _quantity(figure["value"], figure["unit"])
            yield f"| {label} | {value} | {figure['how']} | {figure['detail']} |"
    yield ""


def _quantization(manifest: Manifest) -> Iterator[str]:
    if manifest.quantization is None:
        return
    yield "## Quantization"
    yield ""
    said = dict(manifest.quantization)
    splits = {key: found for key in ("validation", "test") if isinstance(found := said.pop(key, None), Mapping)}
    limit = said.pop("max_drop", None)
    for key, value in said.items():
        yield f"- {_QUANTIZATION.get(key, key.replace('_', ' '))}: {_in_words(key, value)}"
    yield ""
    if not splits:
        return
    yield "What 8 bits lose, with the 95 % interval of the paired difference over patients, or over samples where"
    yield "patients are unknown." + ("" if limit is None else f" On the validation split {limit:g} was allowed.")
    yield ""
    yield "| split | samples | groups | metric | float32 | 8 bits | worse by | signal to noise | decided otherwise |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for split, found in splits.items():
        name, higher = {**METRICS, **MASK_METRICS}.get(found["metric"], (found["metric"], True))
        drop = found["drop"]
        worse = f"{_decimal(drop['value'], 4)} ({_decimal(drop['low'], 4)} to {_decimal(drop['high'], 4)})"
        noise = "–" if found["sqnr_db"] is None else f"{found['sqnr_db']:.1f} dB"
        cells = (
            split,
            f"{found['samples']}",
            f"{found['groups']}",
            name if higher else f"{name} (lower is better)",
            _decimal(found["float32"], 4),
            _decimal(found["int8"], 4),
            worse,
            noise,
            f"{found['flips']:.2%}",
        )
        yield f"| {' | '.join(cells)} |"
    if "test" not in splits:
        yield ""
        yield "There is no test split."
    yield ""


def _in_words(key: str, value: Any) -> str:
    """Return a value of the record of a quantization: counts, sizes, shares and lists as a reader would say them."""
    match value:
        case {"float32": before, "int8": after}:
            return f"{_quantity(after, 'bytes')}, of {_quantity(before, 'bytes')} in float32"
        case Mapping():
            return ", ".join(f"{count} {name}" for name, count in value.items()) or "none"
        case list() | tuple():
            return ("; " if key == "speed" else ", ").join(str(item) for item in value) or "none"
        case float() if key.startswith("share"):
            return f"{value:.1%}"
    return "–" if value is None else str(value)


def _origin(manifest: Manifest) -> Iterator[str]:
    source, licence = manifest.source, manifest.licence
    samples = ", ".join(f"{count} {split}" for split, count in source.get("samples", {}).items())
    yield "## Licence"
    yield ""
    for what in ("weights", "data"):
        yield f"- {what}: {licence.get(what) or 'not stated: ask whoever gave you this bundle before you pass it on'}"
    yield ""
    yield "## Where it comes from"
    yield ""
    yield f"- trained on {source.get('name', 'unknown data')} ({samples}), seed {source.get('seed', 'unknown')}"
    yield f"- fingerprint of classes, samples, labels and splits: `{source.get('fingerprint', 'unknown')}`"
    yield f"- written {manifest.created} by Gossamer {manifest.gossamer}"


def _channels(count: int) -> str:
    return {1: "one channel (grey)", 3: "three channels (colour)"}.get(count, f"{count} channels").capitalize()


def _window(manifest: Manifest) -> str:
    rows, columns = manifest.input.window
    return f"{rows}x{columns} pixels (rows x columns)"


def _decimal(value: float | None, places: int = 3) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _share(value: float) -> str:
    return "all" if value == 1 else f"{100 * value:.4f} % of"


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value / 2**20:.1f} MiB" if unit == "bytes" else f"{value:.2f} {unit}".rstrip()
