"""Which operators become 8 bits, and what a number becomes in them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from made_graphs import PRODUCTS, perceptron
from onnx import numpy_helper

from gossamer.errors import ErrorCode, GossamerError
from gossamer.quantization.products import count_product_macs, count_weights, find_products, prepare_graph
from gossamer.quantization.quantize_onnx import QuantizerSettings, StaticQuantizer, quantize_dynamically
from gossamer.quantization.verify import measure_sqnr_db


def run(data: bytes, windows: np.ndarray, *names: str) -> list[np.ndarray]:
    model = onnx.load_from_string(data)
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([*names] if names else None, {"images": windows})


def static(graph: bytes, windows: np.ndarray, scheme: QuantizerSettings | None = None) -> bytes:
    model = prepare_graph(graph)
    with StaticQuantizer(model, windows, scheme or QuantizerSettings()) as quantizer:
        return quantizer(find_products(model))


def constants(data: bytes) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}


def activations(data: bytes) -> dict[str, tuple[float, int]]:
    """Scale and zero point of every activation that is rounded."""
    held = constants(data)
    nodes = [node for node in onnx.load_from_string(data).graph.node if node.op_type == "QuantizeLinear"]
    return {node.input[0]: (float(held[node.input[1]]), int(held[node.input[2]])) for node in nodes}


def test_products_have_a_constant_weight_and_several_outputs(graph: bytes) -> None:
    model = prepare_graph(graph)
    assert {product.label: product.kind for product in find_products(model)} == PRODUCTS
    dim = 48
    assert [product.weights for product in find_products(model)] == [dim * 16, 3 * dim * dim, dim * dim, 2 * dim]
    assert count_weights(model) > sum(product.weights for product in find_products(model))


def test_work_of_products_is_that_of_their_shapes(graph: bytes, windows: np.ndarray) -> None:
    model = prepare_graph(graph)
    tokens, dim = 4 * 6, 48
    counted = [product.macs for product in count_product_macs(model, find_products(model), windows)]
    assert counted == [tokens * dim * 16, tokens * dim * 3 * dim, tokens * dim * dim, 2 * dim]


def test_a_prepared_graph_computes_the_same_function(graph: bytes, windows: np.ndarray) -> None:
    model = prepare_graph(graph)
    np.testing.assert_allclose(run(model.SerializeToString(), windows)[0], run(graph, windows)[0], atol=1e-6)
    names = {tensor.name for tensor in model.graph.initializer}
    assert "block.qkv.weight" not in names
    assert "unused" not in {name for node in model.graph.node for name in node.output}
    assert not model.graph.value_info


def test_only_the_chosen_products_are_rounded(graph: bytes, windows: np.ndarray) -> None:
    data = static(graph, windows)
    model = onnx.load_from_string(data)
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("Softmax", "LayerNormalization", "Gelu") or node.output[0] in ("scores", "mixed", "gate"):
            assert producers.get(node.input[0]) != "DequantizeLinear", node.name
            assert all(producers.get(name) != "QuantizeLinear" for name in node.output)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["Softmax"], kinds["LayerNormalization"], kinds["Gelu"], kinds["MatMul"]) == (1, 1, 1, 5)
    assert measure_sqnr_db(run(graph, windows)[0], run(data, windows)[0]) > 25


def test_dynamic_leaves_convolutions_and_rounds_weights_alone(graph: bytes, windows: np.ndarray) -> None:
    model = prepare_graph(graph)
    data = quantize_dynamically(model, find_products(model), QuantizerSettings())
    kinds = Counter(node.op_type for node in onnx.load_from_string(data).graph.node)
    # Products of two activations and the gate stay.
    assert (kinds["MatMulInteger"], kinds["Conv"], kinds["MatMul"], kinds["Gemm"]) == (3, 1, 3, 0)
    assert measure_sqnr_db(run(graph, windows)[0], run(data, windows)[0]) > 25


def test_zero_is_exact_and_rounding_is_half_a_step_at_most(graph: bytes, windows: np.ndarray) -> None:
    data = static(graph, windows)
    found = activations(data)
    assert len(found) == 5  # the input of each product, and the result of the convolution
    for name, (scale, zero) in found.items():
        assert 0 <= zero <= 255
        values = windows if name == "images" else run(prepare_graph(graph).SerializeToString(), windows, name)[0]
        if name == "stem_out":  # its ReLU is part of it
            values = np.maximum(values, 0)
            assert zero == 0
        low, high = min(values.min(), 0.0), max(values.max(), 0.0)
        assert scale == pytest.approx((high - low) / 255, rel=1e-4)
        rounded = (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale
        assert np.abs(values - rounded).max() <= 0.501 * scale
        assert (rounded[values == 0] == 0).all()
    (there,) = run(data, np.zeros_like(windows[:1]), "images_DequantizeLinear_Output")
    assert (there == 0).all()


def test_weights_have_a_scale_for_each_output_channel(graph: bytes, windows: np.ndarray) -> None:
    before, held = prepare_graph(graph), constants(static(graph, windows))
    given = constants(before.SerializeToString())
    nodes = {node.name: node for node in before.graph.node}
    for product in find_products(before):
        name = nodes[product.node].input[1]
        weight, stored, scale = given[name], held[f"{name}_quantized"], held[f"{name}_scale"]
        assert stored.dtype == np.int8
        axis = 0 if product.kind in ("Conv", "Gemm") else 1
        shape = [-1 if dimension == axis else 1 for dimension in range(weight.ndim)]
        assert scale.shape == (weight.shape[axis],)
        assert len(np.unique(scale)) == len(scale)
        assert (np.abs(weight - stored * scale.reshape(shape)) <= 0.501 * scale.reshape(shape)).all()


def test_seven_bits_leave_room_for_sums(graph: bytes, windows: np.ndarray) -> None:
    for reduce_range, largest in ((False, 127), (True, 64)):
        held = constants(static(graph, windows, QuantizerSettings(reduce_range=reduce_range)))
        found = max(
            int(np.abs(v.astype(int)).max()) for k, v in held.items() if k.endswith("_quantized") and v.ndim > 1
        )
        assert largest - 1 <= found <= largest


def test_percentiles_clip_outliers(graph: bytes, windows: np.ndarray) -> None:
    odd = np.concatenate([windows] * 7)
    odd[33, 0, 2, 5] = 400.0  # 1 of 26,880 values
    scales = [
        activations(static(graph, odd, QuantizerSettings(range=name)))["images"][0] for name in ("minmax", "percentile")
    ]
    assert scales[0] > 1.5
    assert scales[1] < 0.1


def test_an_unknown_range_is_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        QuantizerSettings(range="entropy")  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.CONFIG


def test_files_of_weights_shrink_to_a_quarter(windows: np.ndarray) -> None:
    before = perceptron().SerializeToString()
    model = prepare_graph(before)
    for data in (static(before, windows), quantize_dynamically(model, find_products(model), QuantizerSettings())):
        assert 0.25 <= len(data) / len(before) <= 0.40


def test_the_quantizer_prints_nothing(graph: bytes, windows: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    static(graph, windows, QuantizerSettings(range="percentile"))
    assert capfd.readouterr() == ("", "")
