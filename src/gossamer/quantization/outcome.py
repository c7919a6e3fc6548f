"""Options and outcome of a quantization, and the error for a limit that no scheme meets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import onnxruntime

from gossamer import config
from gossamer.checks import require_at_least, require_one_of
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.quantization.accuracy_loss import AccuracyLoss, degradation_noun
from gossamer.quantization.calibrate import DEFAULT_SAMPLES, CalibrationData, require_enough_samples
from gossamer.quantization.int8_speed import Int8Speed
from gossamer.quantization.quantize_onnx import QuantizerSettings
from gossamer.quantization.schemes import Int8Candidate, SchemeName, TriedCandidate
from gossamer.quantization.sensitivity import LayerSensitivity
from gossamer.quantization.verify import Int8Verification


@dataclass(frozen=True, kw_only=True)
class QuantizationOptions:
    """How to quantize.

    Attributes:
        max_drop: Largest allowed degradation of the metric on the validation split, 0 or more.
        metric: Metric whose degradation is limited (default: ``auroc`` for classification, ``dice`` for segmentation).
        scheme: Only scheme to try (default: all, in order).
        settings: Representation of numbers in int8.
        images: Number of calibration images or windows of the training split, 128 or more.
        keep_ends: Whether the first and the last layer stay in float32.
        sensitivities: Whether the sensitivity of all layers is measured even if mixed precision is not needed.
        seed: Seed of the calibration sample and of the bootstrap.

    Raises:
        GossamerError: ``E-CONFIG``.
    """

    max_drop: float = 0.005
    metric: str | None = None
    scheme: SchemeName | None = None
    settings: QuantizerSettings = field(default_factory=QuantizerSettings)
    images: int = DEFAULT_SAMPLES
    keep_ends: bool = False
    sensitivities: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 0, "max_drop")
        require_one_of(self, "scheme", get_args(SchemeName))
        require_enough_samples(self.images)

    def to_json(self) -> dict[str, Any]:
        """Return the options as data, under the keys of version 0.1.0."""
        values = {key: value for key, value in config.to_json(self).items() if key != "settings"}
        scheme = values.pop("scheme")
        return {**values, "rung": scheme, "scheme": config.to_json(self.settings)}


@dataclass(frozen=True, kw_only=True)
class ChosenCandidate:
    """The int8 network that was chosen, with everything that was measured about it.

    Attributes:
        candidate: Chosen candidate.
        validation: Accuracy loss on the validation split.
        verification: Counts of its graph.
        test: Accuracy loss on the test split; None if there is no test split.
        quality: Every metric of the split that the float32 bundle reports.
        speeds: Latency in each installed engine.
    """

    candidate: Int8Candidate
    validation: AccuracyLoss
    verification: Int8Verification
    test: AccuracyLoss | None
    quality: dict[str, Any]
    speeds: tuple[Int8Speed, ...]


@dataclass(frozen=True, kw_only=True)
class QuantizationOutcome:
    """Outcome of a quantization, whether or not a scheme met the limit.

    Attributes:
        options: Options of the quantization.
        metric: Metric whose degradation is limited.
        calibration: Inputs that the network was calibrated with.
        float32_bytes: Size of the float32 ONNX file.
        tried: Every candidate that was tried, in order.
        sensitivities: Sensitivity of each layer; empty if it was not measured.
        chosen: The chosen network; None if no scheme met the limit.
        notes: Remarks for the reader of the report.
    """

    options: QuantizationOptions
    metric: str
    calibration: CalibrationData
    float32_bytes: int
    tried: tuple[TriedCandidate, ...]
    sensitivities: tuple[LayerSensitivity, ...]
    chosen: ChosenCandidate | None
    notes: tuple[Note, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as data, the content of ``quantization.json``."""
        calibration = {self.calibration.noun: len(self.calibration.windows), "samples": list(self.calibration.samples)}
        return {
            "met": self.chosen is not None,
            "metric": self.metric,
            "options": self.options.to_json(),
            "calibration": calibration,
            "steps": [candidate.to_json() for candidate in self.tried],
            "sensitivities": [{"layer": layer.label, "sqnr_db": layer.sqnr_db} for layer in self.sensitivities],
            "quantization": None if self.chosen is None else self.manifest_record(),
            "speeds": [] if self.chosen is None else [speed.to_json() for speed in self.chosen.speeds],
            "notes": [note.to_json() for note in self.notes],
        }

    def manifest_record(self) -> dict[str, Any]:
        """Return what the manifest of the int8 bundle says about the quantization."""
        assert self.chosen is not None
        chosen, settings, verification = self.chosen, self.options.settings, self.chosen.verification
        seen, size = self.calibration, len(chosen.candidate.model)
        calibrated = f"{len(seen.windows)} {seen.noun} of the training split, seed {self.options.seed}"
        ranges = "range of each run" if chosen.candidate.scheme == "dynamic" else f"{settings.range} of {calibrated}"
        return {
            "quantizer": f"onnxruntime {onnxruntime.__version__}",
            "rung": chosen.candidate.scheme,
            "weights": f"int8, {7 if settings.reduce_range else 8} bits, a scale for each output channel",
            "activations": f"uint8, {ranges}",
            "products": verification.before,
            "products_in_int8": verification.quantized,
            "products_in_float32": [product.label for product in chosen.candidate.kept],
            "executed_by_onnxruntime_here": verification.executed,
            "share_of_weights": round(verification.weights, 4),
            "share_of_macs": round(verification.macs, 4),
            "max_drop": self.options.max_drop,
            "validation": _round_values(chosen.validation),
            "test": None if chosen.test is None else _round_values(chosen.test),
            "bytes": {"float32": self.float32_bytes, "int8": size, "ratio": round(size / self.float32_bytes, 4)},
            "speed": [str(speed) for speed in chosen.speeds],
        }


class LimitNotMetError(GossamerError):
    """No quantization scheme stays within the allowed degradation. Only the report was written, not the bundle.

    Attributes:
        outcome: Every candidate that was tried, with its accuracy loss.
        report: Path of the report, ``quantization.json``.
    """

    def __init__(self, outcome: QuantizationOutcome, report: Path) -> None:
        options, noun = outcome.options, degradation_noun(outcome.metric)
        subject = "no quantization scheme keeps" if options.scheme is None else f"{options.scheme} does not keep"
        tried = "; ".join(str(candidate) for candidate in outcome.tried)
        problem = f"{subject} the {noun} of {outcome.metric} within {options.max_drop:g} ({tried})"
        remedy = f"see {report}; allow a larger max_drop, or train longer"
        super().__init__(ErrorCode.VALUE, "quantize", problem, remedy)
        self.outcome, self.report = outcome, report


def _round_values(loss: AccuracyLoss) -> dict[str, Any]:
    values = loss.to_json()
    values["drop"] = {key: round(value, 6) for key, value in values["drop"].items()}
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()}
