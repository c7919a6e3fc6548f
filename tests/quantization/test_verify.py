"""Silent failures of quantization are found."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gossamer.errors import ErrorCode, GossamerError
from gossamer.quantization.products import count_product_macs, count_weights, find_products, prepare_graph
from gossamer.quantization.quantize_onnx import QuantizerSettings, StaticQuantizer, quantize_dynamically
from gossamer.quantization.verify import (
    INTEGER,
    measure_sqnr_db,
    require_sound_scales,
    require_varied_logits,
    verify_int8_graph,
)


def quantized(graph: bytes, windows: np.ndarray, count: int | None = None):
    model = prepare_graph(graph)
    products = count_product_macs(model, find_products(model), windows)
    with StaticQuantizer(model, windows, QuantizerSettings()) as quantizer:
        return model, products, quantizer(products[:count])


def test_operators_are_counted_before_and_after(graph: bytes, windows: np.ndarray) -> None:
    model, products, data = quantized(graph, windows)
    proof = verify_int8_graph(model, data, products, products, count_weights(model))
    assert proof.before == proof.quantized == {"Conv": 1, "MatMul": 2, "Gemm": 1}
    assert sum(proof.executed.values()) == 4
    assert set(proof.executed) <= INTEGER
    assert proof.floating == {"Softmax": 1, "LayerNormalization": 1, "Gelu": 1}
    assert proof.macs == 1
    assert 0.8 < proof.weights < 1


def test_quantized_part_of_products_is_counted(graph: bytes, windows: np.ndarray) -> None:
    model, products, data = quantized(graph, windows, 2)
    proof = verify_int8_graph(model, data, products, products[:2], count_weights(model))
    assert proof.quantized == {"Conv": 1, "MatMul": 1}
    assert proof.macs == sum(p.macs for p in products[:2]) / sum(p.macs for p in products)


def test_dynamic_graph_counts_matrix_products(graph: bytes, windows: np.ndarray) -> None:
    model = prepare_graph(graph)
    products = count_product_macs(model, find_products(model), windows)
    data = quantize_dynamically(model, products, QuantizerSettings())
    proof = verify_int8_graph(model, data, products, products[1:], count_weights(model))
    assert proof.quantized == {"MatMul": 2, "Gemm": 1}
    assert sum(proof.executed.values()) == 3


def test_a_layer_that_stayed_in_float32_is_found(graph: bytes, windows: np.ndarray) -> None:
    model, products, data = quantized(graph, windows, 3)
    with pytest.raises(GossamerError, match="1 Conv, 2 MatMul, but 1 Conv, 3 MatMul") as caught:
        verify_int8_graph(model, data, products, products, count_weights(model))
    assert (caught.value.code, caught.value.where) == (ErrorCode.VALUE, "int8")


def test_an_activation_without_calibration_values_is_found(graph: bytes, windows: np.ndarray) -> None:
    model, products, data = quantized(graph, np.zeros_like(windows))
    with pytest.raises(GossamerError, match="scale 1 and the zero point 0") as caught:  # the value that is wrong
        verify_int8_graph(model, data, products, products, count_weights(model))
    assert caught.value.code is ErrorCode.VALUE


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, math.inf])
def test_a_scale_that_is_not_positive_and_finite_is_found(graph: bytes, windows: np.ndarray, value: float) -> None:
    _, _, data = quantized(graph, windows)
    model = onnx.load_from_string(data)
    require_sound_scales(model)
    for tensor in model.graph.initializer:
        if tensor.name == "projection_scale":
            scales = numpy_helper.to_array(tensor).copy()
            scales[5] = value
            tensor.CopyFrom(numpy_helper.from_array(scales, tensor.name))
    with pytest.raises(GossamerError) as caught:
        require_sound_scales(model)
    assert (caught.value.code, caught.value.where) == (ErrorCode.VALUE, "projection_scale")


def test_a_parameter_named_scale_may_be_negative(graph: bytes, windows: np.ndarray) -> None:
    _, _, data = quantized(graph, windows)
    model = onnx.load_from_string(data)
    model.graph.initializer.append(numpy_helper.from_array(np.float32([-0.5]), "blocks.1.attention_scale"))
    require_sound_scales(model)


def test_logits_that_do_not_vary_or_are_not_finite_are_found() -> None:
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((5, 3)).astype(np.float32)
    require_varied_logits(logits, 0.5 * logits)
    for dead in (np.zeros_like(logits), np.tile(logits[:1], (5, 1)), 0.005 * logits):
        with pytest.raises(GossamerError) as caught:
            require_varied_logits(logits, dead)
        assert caught.value.code is ErrorCode.VALUE
    broken = logits.copy()
    broken[2, 1] = np.nan
    with pytest.raises(GossamerError) as caught:
        require_varied_logits(logits, broken)
    assert caught.value.code is ErrorCode.VALUE
    assert caught.value.problem.startswith("1 logits")


def test_signal_to_noise_of_known_noise() -> None:
    signal = np.array([[3.0, -4.0], [0.0, 5.0]])
    assert measure_sqnr_db(signal, signal * 1.1) == pytest.approx(20)
    assert measure_sqnr_db(signal, signal + np.array([[0.5, 0.0], [0.0, 0.0]])) == pytest.approx(10 * math.log10(200))
    assert measure_sqnr_db(signal, signal) == math.inf
    assert measure_sqnr_db(signal, np.full_like(signal, np.nan)) == -math.inf
