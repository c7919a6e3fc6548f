"""Post-training quantization with a limit of the accuracy loss: calibrate, try the schemes in order, compare.

Calibration uses the training split and the choice of a scheme the validation split. The test split is used once, for
the chosen network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
from onnx import ModelProto

from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.inference.tasks import bundle_predictor
from gossamer.progress import SILENT, Progress
from gossamer.quantization.accuracy_loss import AccuracyLoss, compute_logits, degradation_verb, replace_model
from gossamer.quantization.calibrate import CalibrationData, draw_calibration_data
from gossamer.quantization.int8_speed import measure_int8_speeds
from gossamer.quantization.outcome import ChosenCandidate, QuantizationOptions, QuantizationOutcome
from gossamer.quantization.products import (
    Product,
    count_product_macs,
    count_weights,
    find_products,
    prepare_graph,
)
from gossamer.quantization.quantize_onnx import StaticQuantizer, quantize_dynamically
from gossamer.quantization.schemes import Int8Candidate, SchemeName, TriedCandidate, first_within_drop
from gossamer.quantization.sensitivity import LayerSensitivity, keep_sensitive, measure_sensitivities
from gossamer.quantization.source import QuantizationSource
from gossamer.quantization.tasks import QUANTIZATION_TASKS, QuantizationTask, choose_metric
from gossamer.quantization.verify import Int8Verification, verify_int8_graph

PROBES = 16
"""Number of calibration inputs that sensitivities are measured with."""
MATRIX_WEIGHTS, MATRIX_MACS = 0.9, 0.5
"""Smallest shares of weights and of work in matrix products for which the dynamic scheme, which does not quantize
convolutions, applies."""
GOOD_SQNR_DB, FEW_FLIPS = 20.0, 0.01
"""Usual values of an int8 network with a small loss; worse ones are noted."""


def quantize_source(
    source: QuantizationSource, options: QuantizationOptions, *, progress: Progress = SILENT
) -> QuantizationOutcome:
    """Return the outcome of quantizing a network.

    Args:
        source: Float32 network with its data.
        options: Options of the quantization.
        progress: Receiver of messages and progress.

    Raises:
        GossamerError: ``E-CONFIG`` for a metric of another task, ``E-UNSUPPORTED`` for a network without products that
            have weights, or for a scheme that does not apply, and the errors of calibration.
    """
    bundle, dataset, predictor = source.bundle, source.dataset, bundle_predictor(source.bundle)
    task, metric = QUANTIZATION_TASKS[bundle.manifest.task], choose_metric(bundle.manifest.task, options.metric)
    progress.show_message(f"preparing {options.images} {task.INPUT_NOUN} of the training split for calibration")
    calibration = draw_calibration_data(task, predictor, dataset, options.images, options.seed)
    model = prepare_graph(source.quantizable)
    products = count_product_macs(model, find_products(model), calibration.windows[:1])
    _require_quantizable(source, options, products)
    progress.show_message(f"measuring {metric} of the validation split in float32")
    reference = task.measure_reference(predictor, dataset, "val", metric, options.seed)
    numbers = count_weights(model)

    def examine(candidate: Int8Candidate) -> tuple[AccuracyLoss, Int8Verification]:
        verification = verify_int8_graph(model, candidate.model, products, candidate.chosen, numbers)
        progress.show_message(f"measuring {metric} of the validation split in int8")
        return reference.measure_loss(replace_model(bundle, candidate.model)), verification

    with StaticQuantizer(model, calibration.windows, options.settings) as static:
        maker = _CandidateMaker(source, options, model, products, static, calibration, progress)
        winner, tried = first_within_drop(
            maker.make_candidates(), examine, options.max_drop, lambda found: progress.show_message(str(found))
        )
        if options.sensitivities:
            maker.measure_sensitivities()
    if not tried:
        problem = "mixed does not apply: without the most sensitive layer, less than half of the work is in int8"
        raise GossamerError(ErrorCode.UNSUPPORTED, "scheme", problem, "use the static scheme")
    chosen = (
        None if winner is None else _evaluate_winner(source, task, options, winner, tried[-1], calibration, progress)
    )
    return QuantizationOutcome(
        options=options,
        metric=metric,
        calibration=calibration,
        float32_bytes=len(source.float32),
        tried=tried,
        sensitivities=maker.sensitivities,
        chosen=chosen,
        notes=(
            *dataset.notes,
            *calibration.notes,
            *maker.notes,
            *_note_few_weights(bundle.manifest.preset, products, numbers),
            *(() if chosen is None else _note_remarks(bundle.manifest.preset, options, chosen)),
        ),
    )


class _CandidateMaker:
    """Makes the candidates of all schemes in order, each when it is needed."""

    def __init__(
        self,
        source: QuantizationSource,
        options: QuantizationOptions,
        model: ModelProto,
        products: tuple[Product, ...],
        static: StaticQuantizer,
        calibration: CalibrationData,
        progress: Progress,
    ) -> None:
        self.source, self.options, self.model, self.products = source, options, model, products
        self.static, self.progress = static, progress
        self.probes = calibration.windows[:PROBES]
        self.ends = (products[0], products[-1]) if options.keep_ends else ()
        self.sensitivities: tuple[LayerSensitivity, ...] = ()
        self.notes: list[Note] = []

    def make_candidates(self) -> Iterator[Int8Candidate]:
        """Yield the candidates."""
        schemes = get_args(SchemeName) if self.options.scheme is None else (self.options.scheme,)
        unfit = reason_against_dynamic(self.products) if "dynamic" in schemes else None
        if unfit is not None:
            self.notes.append(Note(ErrorCode.UNSUPPORTED, "dynamic", f"not tried: {unfit}"))
        if "dynamic" in schemes and unfit is None:
            chosen = self._products_without(self.ends, matrices=True)
            self.progress.show_message("dynamic: quantizing the weights of matrix products")
            model = quantize_dynamically(self.model, chosen, self.options.settings)
            yield self._make_candidate("dynamic", model, chosen)
        if "static" in schemes:
            chosen = self._products_without(self.ends)
            self.progress.show_message("static: calibrating convolutions and matrix products")
            yield self._make_candidate("static", self.static(chosen), chosen)
        if "mixed" in schemes:
            for kept in keep_sensitive(self.measure_sensitivities(), self.ends):
                chosen = self._products_without(kept)
                self.progress.show_message(f"mixed: {len(kept)} of {len(self.products)} layers in float32")
                yield self._make_candidate("mixed", self.static(chosen), chosen)

    def measure_sensitivities(self) -> tuple[LayerSensitivity, ...]:
        """Return the sensitivity of each layer, which is measured once."""
        if not self.sensitivities:
            bundle = self.source.bundle

            def compute_candidate_logits(model: bytes) -> np.ndarray:
                return compute_logits(replace_model(bundle, model), self.probes)

            self.progress.show_message(f"measuring the sensitivity of {len(self.products)} layers")
            reference = compute_logits(bundle_predictor(bundle), self.probes)
            with self.progress.track_steps("measuring sensitivities") as update:
                self.sensitivities = measure_sensitivities(
                    self.products, self.static, compute_candidate_logits, reference, update
                )
        return self.sensitivities

    def _make_candidate(self, scheme: SchemeName, model: bytes, chosen: tuple[Product, ...]) -> Int8Candidate:
        return Int8Candidate(scheme, model, chosen, tuple(p for p in self.products if p not in chosen))

    def _products_without(self, kept: tuple[Product, ...], *, matrices: bool = False) -> tuple[Product, ...]:
        return tuple(p for p in self.products if p not in kept and not (matrices and p.kind == "Conv"))


def reason_against_dynamic(products: Sequence[Product]) -> str | None:
    """Return why the dynamic scheme, which does not quantize convolutions, does not apply; None if it applies.

    Args:
        products: Products of the graph with their work.
    """
    shares = []
    for count in (lambda product: product.weights, lambda product: product.macs):
        in_matrices = sum(count(product) for product in products if product.kind != "Conv")
        shares.append(in_matrices / max(1, sum(count(product) for product in products)))
    if shares[0] >= MATRIX_WEIGHTS and shares[1] >= MATRIX_MACS:
        return None
    found = f"matrix products have {shares[0]:.0%} of the weights and {shares[1]:.0%} of the work"
    return f"{found}, and at least {MATRIX_WEIGHTS:.0%} and {MATRIX_MACS:.0%} are required; the rest is in convolutions"


def _require_quantizable(source: QuantizationSource, options: QuantizationOptions, products: Sequence[Product]) -> None:
    """Raise unless the network has products to quantize and a scheme that was chosen applies to them."""
    if not products:
        problem = "has no convolution and no matrix product with a weight"
        raise GossamerError(ErrorCode.UNSUPPORTED, source.bundle.path, problem, "there is nothing to quantize")
    if options.scheme == "dynamic" and (reason := reason_against_dynamic(products)) is not None:
        problem = f"dynamic does not apply: {reason}"
        raise GossamerError(ErrorCode.UNSUPPORTED, "scheme", problem, "use the static scheme")


def _evaluate_winner(
    source: QuantizationSource,
    task: QuantizationTask,
    options: QuantizationOptions,
    winner: Int8Candidate,
    found: TriedCandidate,
    calibration: CalibrationData,
    progress: Progress,
) -> ChosenCandidate:
    """Return the chosen network with its loss on the test split, its metrics and its latency."""
    bundle, dataset, seed = source.bundle, source.dataset, options.seed
    assert found.loss is not None
    assert found.verification is not None
    metric, int8 = found.loss.metric, replace_model(bundle, winner.model)
    test = None
    if any(sample.split == "test" for sample in dataset.samples):
        progress.show_message(f"measuring {metric} of the test split in float32 and in int8")
        test = task.measure_reference(bundle_predictor(bundle), dataset, "test", metric, seed).measure_loss(int8)
    evaluated = bundle.manifest.source.get("evaluated", "val" if test is None else "test")
    progress.show_message(f"measuring all metrics of the {evaluated} split in int8")
    quality = task.measure_quality(int8, dataset, evaluated, seed)
    progress.show_message("timing calls in float32 and in int8")
    speeds = measure_int8_speeds(source.float32, winner.model, calibration.windows[:1], bundle.threads)
    return ChosenCandidate(
        candidate=winner,
        validation=found.loss,
        verification=found.verification,
        test=test,
        quality=quality,
        speeds=speeds,
    )


def _note_few_weights(where: str, products: Sequence[Product], numbers: int) -> Iterator[Note]:
    """Yield a note if products with weights have few of the numbers of a graph."""
    share = sum(product.weights for product in products) / numbers
    if share < MATRIX_WEIGHTS:
        text = (
            f"products with weights have {share:.0%} of all numbers, and the rest stays in float32; if attention folds "
            "the image into its weights, as sequence_norm may in a bundle, quantize the run instead"
        )
        yield Note(ErrorCode.UNSUPPORTED, where, text)


def _note_remarks(where: str, options: QuantizationOptions, chosen: ChosenCandidate) -> Iterator[Note]:
    """Yield notes on what the figures of the chosen network do not show by themselves."""
    found = chosen.validation
    if not found.drop.high <= options.max_drop:
        limit = "more" if math.isnan(found.drop.high) else f"as much as {found.drop.high:.4f}"
        text = f"{found.metric} may {degradation_verb(found.metric)} by {limit}"
        few = f"the {found.groups} patients of the validation split cannot exclude it"
        yield Note(ErrorCode.VALUE, where, f"{text}: {few}")
    if found.sqnr_db < GOOD_SQNR_DB or found.flips > FEW_FLIPS:
        text = f"signal to noise {found.sqnr_db:.1f} dB (usually {GOOD_SQNR_DB:.0f} or more), {found.flips:.1%} of"
        yield Note(ErrorCode.VALUE, where, f"{text} predictions changed (usually {FEW_FLIPS:.0%} or less)")
    if chosen.candidate.scheme == "dynamic":
        text = "dynamic ranges span a whole batch, so that the result for an image depends slightly on the others in it"
        yield Note(ErrorCode.VALUE, where, text)
    for speed in chosen.speeds:
        if speed.gain <= 1:
            yield Note(ErrorCode.VALUE, where, str(speed))
