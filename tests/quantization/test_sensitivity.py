"""The most sensitive layer is found and kept in float32 first."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_graphs import perceptron

from gossamer.inference.engines import load_engine
from gossamer.quantization.products import Product, count_product_macs, find_products, prepare_graph
from gossamer.quantization.quantize_onnx import QuantizerSettings, StaticQuantizer
from gossamer.quantization.sensitivity import MAX_GROUPS, LayerSensitivity, keep_sensitive, measure_sensitivities
from gossamer.quantization.verify import measure_sqnr_db


def logits(model: bytes, windows: np.ndarray) -> np.ndarray:
    return load_engine("onnxruntime", model, Path("model.onnx"), 1).run(windows)


@pytest.mark.parametrize("planted", [1, 2, 3])
def test_a_planted_sensitive_layer_is_found(planted: int, windows: np.ndarray) -> None:
    data = perceptron(planted=planted).SerializeToString()
    reference = logits(data, windows)
    np.testing.assert_allclose(reference, logits(perceptron().SerializeToString(), windows), rtol=1e-4, atol=1e-5)
    model = prepare_graph(data)
    products = count_product_macs(model, find_products(model), windows)
    seen: list[tuple[int, int]] = []
    with StaticQuantizer(model, windows, QuantizerSettings()) as quantizer:
        found = measure_sensitivities(
            products,
            quantizer,
            lambda made: logits(made, windows),
            reference,
            lambda done, total: seen.append((done, total)),
        )
        kept = next(keep_sensitive(found))
        rest = [product for product in products if product not in kept]
        whole, better = (measure_sqnr_db(reference, logits(quantizer(part), windows)) for part in (products, rest))
    assert [layer.label for layer in found] == [f"layers.{number}" for number in range(4)]
    assert seen == [(done, 4) for done in (1, 2, 3, 4)]
    assert int(np.argmin([layer.sqnr_db for layer in found])) == planted
    assert [product.label for product in kept] == [f"layers.{planted}"]
    assert whole < 15
    assert better > whole + 15


def layer(name: str, sqnr: float, macs: int) -> LayerSensitivity:
    return LayerSensitivity((Product(name, name, "MatMul", 10, macs),), sqnr)


def test_one_two_four_layers_are_kept_the_most_sensitive_first() -> None:
    order = [layer(f"l{number}", 60.0 - 7 * (number * 5 % 11), 10) for number in range(11)]
    ranked = [one.products[0] for one in sorted(order, key=lambda one: one.sqnr_db)]
    assert [list(kept) for kept in keep_sensitive(order)] == [ranked[:1], ranked[:2], ranked[:4]]


def test_half_of_the_work_stays_in_int8() -> None:
    heavy = [layer("a", -math.inf, 60), layer("b", 3.0, 20), layer("c", 9.0, 20)]
    assert list(keep_sensitive(heavy)) == []
    light = [layer("a", 3.0, 40), layer("b", 5.0, 20), layer("c", math.inf, 40)]
    assert [[p.node for p in kept] for kept in keep_sensitive(light)] == [["a"]]


def test_products_that_are_always_kept_are_added() -> None:
    layers = [layer(name, float(number), 10) for number, name in enumerate("abcdef")]
    always = (layers[5].products[0],)
    assert [[p.node for p in kept] for kept in keep_sensitive(layers, always)] == [["a", "f"], ["a", "b", "f"]]


def test_many_layers_are_measured_with_their_neighbours() -> None:
    products = [Product(f"n{number}", f"block.{number}", "Conv", 4, 4) for number in range(150)]
    calls: list[list[Product]] = []

    def quantize(group) -> bytes:
        calls.append(list(group))
        return bytes([len(calls)])

    reference = np.array([[1.0, 2.0]])
    found = measure_sensitivities(products, quantize, lambda made: reference + 0.01 * made[0], reference)
    assert len(found) <= MAX_GROUPS
    assert [product for group in calls for product in group] == products
    assert {len(group) for group in calls} == {3}
    assert found[0].label == "block.0 … block.2"
    assert [one.sqnr_db for one in found] == sorted((one.sqnr_db for one in found), reverse=True)
