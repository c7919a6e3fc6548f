"""Post-training quantization that proves itself: calibrate, climb the ladder, compare.

Calibration sees the training split, the choice of a rung the validation split, and the test split is reported once, of
the network that was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import onnxruntime
from onnx import ModelProto

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.quantization.accuracy_loss import (
    AccuracyLoss,
    choose_metric,
    compute_logits,
    measure_quality,
    measure_reference,
    replace_model,
    words_for_worsening,
)
from gossamer.quantization.calibrate import (
    DEFAULT_SAMPLES,
    CalibrationData,
    draw_calibration_data,
    require_enough_samples,
)
from gossamer.quantization.drop import require_drop
from gossamer.quantization.int8_speed import Int8Speed, measure_int8_speeds
from gossamer.quantization.products import Product, count_product_macs, count_weights, find_products, prepare_graph
from gossamer.quantization.quantize_onnx import QuantizerSettings, StaticQuantizer, quantize_dynamically
from gossamer.quantization.schemes import Int8Candidate, SchemeName, TriedCandidate, first_within_drop
from gossamer.quantization.sensitivity import Sensitivity, keep_sensitive, measure_sensitivities
from gossamer.quantization.source import QuantizationSource
from gossamer.quantization.verify import Int8Verification, verify_int8_graph

PROBES = 16
"""Calibration images that sensitivities are measured on."""
MATRIX_WEIGHTS, MATRIX_MACS = 0.9, 0.5
"""Shares that matrix products hold at least where the dynamic rung, which leaves convolutions alone, is one."""
GOOD_SQNR_DB, FEW_FLIPS = 20.0, 0.01
"""What a network in 8 bits that lost little usually reaches; less is noted."""


@dataclass(frozen=True, kw_only=True)
class QuantizationOptions:
    """How to quantize.

    Attributes:
        max_drop: largest drop of the metric on the validation split.
        metric: that may drop; AUROC of classification and Dice of segmentation if left out.
        rung: the only one to try; all if left out.
        scheme: how numbers become 8 bits.
        images: or windows of the training split to calibrate with.
        keep_ends: keep the first layer and the last in floating point.
        sensitivities: measure those of all layers even where the mixed rung is not reached.
        seed: of the calibration sample and the bootstrap.

    Raises:
        GossamerError: ``E-CONFIG``.
    """

    max_drop: float = 0.005
    metric: str | None = None
    rung: SchemeName | None = None
    scheme: QuantizerSettings = field(default_factory=QuantizerSettings)
    images: int = DEFAULT_SAMPLES
    keep_ends: bool = False
    sensitivities: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_drop(self.max_drop)
        if self.rung is not None and self.rung not in get_args(SchemeName):
            known = ", ".join(get_args(SchemeName))
            raise GossamerError(ErrorCode.CONFIG, "--rung", f"there is no rung {self.rung!r}", f"use one of {known}")
        require_enough_samples(self.images)


@dataclass(frozen=True, kw_only=True)
class ChosenCandidate:
    """The network in 8 bits that was chosen, and what it was found to be.

    Attributes:
        candidate: it.
        validation: what it lost on the validation split.
        proof: that it is in 8 bits.
        test: what it lost on the test split; None where there is none.
        quality: every metric of the split that the bundle in floating point reports.
        speeds: in each engine that is installed.
    """

    candidate: Int8Candidate
    validation: AccuracyLoss
    proof: Int8Verification
    test: AccuracyLoss | None
    quality: dict[str, Any]
    speeds: tuple[Int8Speed, ...]


@dataclass(frozen=True, kw_only=True)
class QuantizationOutcome:
    """What came of quantizing a network.

    Attributes:
        options: how it was asked.
        metric: that may drop.
        calibration: what it was calibrated with.
        float32_bytes: of the ONNX file in floating point.
        steps: every candidate that was tried.
        sensitivities: of the layers, where they were measured.
        result: None where no rung met the limit.
        notes: what a reader should know.
    """

    options: QuantizationOptions
    metric: str
    calibration: CalibrationData
    float32_bytes: int
    steps: tuple[TriedCandidate, ...]
    sensitivities: tuple[Sensitivity, ...]
    result: ChosenCandidate | None
    notes: tuple[Note, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as data."""
        calibration = {self.calibration.what: len(self.calibration.windows), "samples": list(self.calibration.samples)}
        return {
            "met": self.result is not None,
            "metric": self.metric,
            "options": config.to_json(self.options),
            "calibration": calibration,
            "steps": [step.to_json() for step in self.steps],
            "sensitivities": [{"layer": layer.label, "sqnr_db": layer.sqnr_db} for layer in self.sensitivities],
            "quantization": None if self.result is None else self.record(),
            "speeds": [] if self.result is None else [speed.to_json() for speed in self.result.speeds],
            "notes": [note.to_json() for note in self.notes],
        }

    def record(self) -> dict[str, Any]:
        """Return what the manifest of the bundle in 8 bits says of it."""
        assert self.result is not None
        result, scheme = self.result, self.options.scheme
        seen = self.calibration
        calibrated = f"{len(seen.windows)} {seen.what} of the training split, seed {self.options.seed}"
        size = len(result.candidate.model)
        return {
            "quantizer": f"onnxruntime {onnxruntime.__version__}",
            "rung": result.candidate.rung,
            "weights": f"int8, {7 if scheme.reduce_range else 8} bits, a scale for each output channel",
            "activations": "uint8, "
            + ("range of each run" if result.candidate.rung == "dynamic" else f"{scheme.range} of {calibrated}"),
            "products": result.proof.before,
            "products_in_int8": result.proof.quantized,
            "products_in_float32": [product.label for product in result.candidate.kept],
            "executed_by_onnxruntime_here": result.proof.executed,
            "share_of_weights": round(result.proof.weights, 4),
            "share_of_macs": round(result.proof.macs, 4),
            "max_drop": self.options.max_drop,
            "validation": _rounded(result.validation),
            "test": None if result.test is None else _rounded(result.test),
            "bytes": {"float32": self.float32_bytes, "int8": size, "ratio": round(size / self.float32_bytes, 4)},
            "speed": [str(speed) for speed in result.speeds],
        }


def quantize_source(
    source: QuantizationSource,
    options: QuantizationOptions,
    *,
    on_stage: Callable[[str], None] = lambda text: None,
    on_step: Callable[[TriedCandidate], None] = lambda step: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> QuantizationOutcome:
    """Return what came of quantizing ``source``.

    Args:
        source: a network in floating point with its data.
        options: how.
        on_stage: told what is being done.
        on_step: told what came of each candidate.
        on_progress: called with the number of layers whose sensitivity was measured, and their total.

    Raises:
        GossamerError: ``E-CONFIG`` for a metric of another task, ``E-UNSUPPORTED`` for a network without products with
            weights and for the one rung that was asked for where it does not apply, and what calibration raises.
    """
    bundle, dataset = source.bundle, source.dataset
    metric = choose_metric(bundle.manifest.task, options.metric)
    on_stage(f"preparing {options.images} images or windows of the training split for calibration")
    calibration = draw_calibration_data(bundle, dataset, options.images, options.seed)
    model = prepare_graph(source.quantizable)
    products = count_product_macs(model, find_products(model), calibration.windows[:1])
    if not products:
        problem = "has no convolution and no matrix product with a weight"
        raise GossamerError(ErrorCode.UNSUPPORTED, bundle.path, problem, "there is nothing to quantize")
    if options.rung == "dynamic" and (reason := reason_against_dynamic(products)) is not None:
        raise GossamerError(ErrorCode.UNSUPPORTED, "--rung", f"dynamic does not apply: {reason}", "use --rung static")
    on_stage(f"{metric} of the validation split in float32")
    judge = measure_reference(bundle, dataset, "val", metric, options.seed)
    numbers = count_weights(model)
    held = sum(product.weights for product in products) / numbers

    def examine(candidate: Int8Candidate) -> tuple[AccuracyLoss, Int8Verification]:
        proof = verify_int8_graph(model, candidate.model, products, candidate.chosen, numbers)
        on_stage(f"{metric} of the validation split in 8 bits")
        return judge(replace_model(bundle, candidate.model)), proof

    with StaticQuantizer(model, calibration.windows, options.scheme) as static:
        ladder = _Ladder(source, options, model, products, static, calibration, on_stage, on_progress)
        winner, steps = first_within_drop(ladder.candidates(), examine, options.max_drop, on_step)
        if options.sensitivities:
            ladder.sensitivities()
    if not steps:
        problem = "mixed does not apply: without the most sensitive layer, less than half of the work is in 8 bits"
        raise GossamerError(ErrorCode.UNSUPPORTED, "--rung", problem, "use --rung static")
    result = None
    if winner is not None:
        last = steps[-1]
        assert last.comparison is not None
        assert last.proof is not None
        result = _result(source, options, metric, winner, last.comparison, last.proof, calibration, on_stage)
    notes = [*dataset.notes, *calibration.notes, *ladder.notes]
    if held < MATRIX_WEIGHTS:
        text = f"products with weights hold {held:.0%} of all numbers, the rest stay in floating point; where attention"
        more = "folds the image into its weights, as sequence_norm may in a bundle, quantize the run"
        notes.append(Note(ErrorCode.UNSUPPORTED, bundle.manifest.preset, f"{text} {more}"))
    return QuantizationOutcome(
        options=options,
        metric=metric,
        calibration=calibration,
        float32_bytes=len(source.float32),
        steps=steps,
        sensitivities=ladder.measured,
        result=result,
        notes=(*notes, *([] if result is None else _remarks(bundle.manifest.preset, options, result))),
    )


class _Ladder:
    """The candidates from the lowest rung on, each made when it is asked for."""

    def __init__(
        self,
        source: QuantizationSource,
        options: QuantizationOptions,
        model: ModelProto,
        products: tuple[Product, ...],
        static: StaticQuantizer,
        calibration: CalibrationData,
        on_stage: Callable[[str], None],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.source, self.options, self.model, self.products = source, options, model, products
        self.static, self.on_stage, self.on_progress = static, on_stage, on_progress
        self.probes = calibration.windows[:PROBES]
        self.ends = (products[0], products[-1]) if options.keep_ends else ()
        self.measured: tuple[Sensitivity, ...] = ()
        self.notes: list[Note] = []

    def candidates(self) -> Iterator[Int8Candidate]:
        """Yield them."""
        wanted = get_args(SchemeName) if self.options.rung is None else (self.options.rung,)
        without = reason_against_dynamic(self.products) if "dynamic" in wanted else None
        if without is not None:
            self.notes.append(Note(ErrorCode.UNSUPPORTED, "dynamic", f"left out: {without}"))
        if "dynamic" in wanted and without is None:
            chosen = self._all_but(self.ends, matrices=True)
            self.on_stage("dynamic: weights of matrix products")
            yield self._candidate("dynamic", quantize_dynamically(self.model, chosen, self.options.scheme), chosen)
        if "static" in wanted:
            chosen = self._all_but(self.ends)
            self.on_stage("static: calibrating convolutions and matrix products")
            yield self._candidate("static", self.static(chosen), chosen)
        if "mixed" in wanted:
            for kept in keep_sensitive(self.sensitivities(), self.ends):
                chosen = self._all_but(kept)
                self.on_stage(f"mixed: {len(kept)} of {len(self.products)} layers in floating point")
                yield self._candidate("mixed", self.static(chosen), chosen)

    def sensitivities(self) -> tuple[Sensitivity, ...]:
        """Return those of the layers, which are measured once."""
        if not self.measured:
            bundle = self.source.bundle

            def logits(model: bytes) -> np.ndarray:
                return compute_logits(replace_model(bundle, model), self.probes)

            self.on_stage(f"sensitivity of {len(self.products)} layers")
            self.measured = measure_sensitivities(
                self.products, self.static, logits, compute_logits(bundle, self.probes), self.on_progress
            )
        return self.measured

    def _candidate(self, rung: SchemeName, model: bytes, chosen: tuple[Product, ...]) -> Int8Candidate:
        return Int8Candidate(rung, model, chosen, tuple(p for p in self.products if p not in chosen))

    def _all_but(self, kept: tuple[Product, ...], *, matrices: bool = False) -> tuple[Product, ...]:
        return tuple(p for p in self.products if p not in kept and not (matrices and p.kind == "Conv"))


def reason_against_dynamic(products: Sequence[Product]) -> str | None:
    """Return why the dynamic rung, which leaves convolutions alone, is none for them; None where it is one."""
    shares = []
    for count in (lambda product: product.weights, lambda product: product.macs):
        held = sum(count(product) for product in products if product.kind != "Conv")
        shares.append(held / max(1, sum(count(product) for product in products)))
    if shares[0] >= MATRIX_WEIGHTS and shares[1] >= MATRIX_MACS:
        return None
    least = f"of which it wants {MATRIX_WEIGHTS:.0%} and {MATRIX_MACS:.0%}"
    held = f"matrix products hold {shares[0]:.0%} of the weights and {shares[1]:.0%} of the work"
    return f"{held}, {least}; convolutions hold the rest"


def _result(
    source: QuantizationSource,
    options: QuantizationOptions,
    metric: str,
    winner: Int8Candidate,
    validation: AccuracyLoss,
    proof: Int8Verification,
    calibration: CalibrationData,
    on_stage: Callable[[str], None],
) -> ChosenCandidate:
    bundle, dataset, seed = source.bundle, source.dataset, options.seed
    chosen = replace_model(bundle, winner.model)
    test = None
    if any(sample.split == "test" for sample in dataset.samples):
        on_stage(f"{metric} of the test split in float32 and in 8 bits")
        test = measure_reference(bundle, dataset, "test", metric, seed)(chosen)
    evaluated = bundle.manifest.source.get("evaluated", "val" if test is None else "test")
    on_stage(f"all metrics of the {evaluated} split in 8 bits")
    quality = measure_quality(chosen, dataset, evaluated, seed)
    on_stage("timing calls in float32 and in 8 bits")
    speeds = measure_int8_speeds(source.float32, winner.model, calibration.windows[:1], bundle.threads)
    return ChosenCandidate(
        candidate=winner, validation=validation, proof=proof, test=test, quality=quality, speeds=speeds
    )


def _remarks(where: str, options: QuantizationOptions, result: ChosenCandidate) -> Iterator[Note]:
    """Yield what the figures of a result do not say by themselves."""
    found = result.validation
    if not found.drop.high <= options.max_drop:
        more = "more" if math.isnan(found.drop.high) else f"as much as {found.drop.high:.4f}"
        text = f"{found.metric} may {words_for_worsening(found.metric)[1]} by {more}"
        few = f"the {found.groups} patients of the validation split cannot exclude it"
        yield Note(ErrorCode.VALUE, where, f"{text}: {few}")
    if found.sqnr_db < GOOD_SQNR_DB or found.flips > FEW_FLIPS:
        text = f"signal to noise {found.sqnr_db:.1f} dB (usually {GOOD_SQNR_DB:.0f} or more), {found.flips:.1%} decided"
        yield Note(ErrorCode.VALUE, where, f"{text} otherwise (usually {FEW_FLIPS:.0%} or less)")
    if result.candidate.rung == "dynamic":
        text = "dynamic ranges are those of a whole batch, so that an image's answer depends a little on its neighbours"
        yield Note(ErrorCode.VALUE, where, text)
    for speed in result.speeds:
        if speed.gain <= 1:
            yield Note(ErrorCode.VALUE, where, str(speed))


def _rounded(comparison: AccuracyLoss) -> dict[str, Any]:
    values = comparison.to_json()
    values["drop"] = {key: round(value, 6) for key, value in values["drop"].items()}
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()}
