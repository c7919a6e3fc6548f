"""Verification that a graph is in int8 and still distinguishes images, since quantizers fail silently.

Three failures are known: operators that should be quantized stay in float32, activations that were never measured get
the scale 1 and the zero point 0, and the network then gives the same result for every image.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, numpy_helper

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError
from gossamer.quantization.products import KINDS, Product

INTEGER = {
    "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger", "DynamicQuantizeMatMul",
    "ConvInteger",
}  # fmt: skip
"""Products in int8 in ONNX Runtime."""
ROUNDED = {"QLinearSoftmax", "QLinearSigmoid", "QLinearReduceMean", "QLinearLeakyRelu"}
"""Operators that ONNX Runtime substitutes for those that should stay in float32 if inputs and results are rounded."""
FLOATING = ("Softmax", "LayerNormalization", "InstanceNormalization", "Gelu", "Erf")
MIN_SPREAD = 0.01
"""Smallest spread of the logits over images, as a share of the spread of the float32 network."""
_REPORT = "use another scheme, and report it"


@dataclass(frozen=True, kw_only=True)
class Int8Verification:
    """Counts of the operators of an int8 graph, compared with its float32 graph.

    Attributes:
        before: Number of products with weights in float32, by operator.
        quantized: Number of products with both factors in int8, by operator.
        executed: Number of int8 products after ONNX Runtime has optimized the graph for this machine, by operator.
        floating: Number of softmax, normalization and GELU operators, unchanged by quantization.
        weights: Share of all float32 constants that are now in int8, 0 to 1.
        macs: Share of the multiply-accumulates of products with weights that are now in int8, 0 to 1.
    """

    before: dict[str, int]
    quantized: dict[str, int]
    executed: dict[str, int]
    floating: dict[str, int]
    weights: float
    macs: float

    def to_json(self) -> dict[str, Any]:
        """Return the counts as data."""
        return config.to_json(self)


def verify_int8_graph(
    before: ModelProto, data: bytes, products: Sequence[Product], chosen: Sequence[Product], numbers: int
) -> Int8Verification:
    """Return the counts of an int8 graph, if they are those that were chosen.

    Args:
        before: Prepared float32 graph.
        data: Content of the ONNX file in int8.
        products: Products of the graph.
        chosen: Products that should be in int8.
        numbers: Number of float32 constants of the float32 graph.

    Raises:
        GossamerError: ``E-VALUE`` for a degenerate scale, or if other operators are in int8 than were chosen.
    """
    model = onnx.load_from_string(data)
    require_sound_scales(model)
    expected = Counter("Conv" if product.kind == "Conv" else "MatMul" for product in chosen)
    found = _count_quantized(model)
    if found != expected:
        problem = f"products in int8 are {_list_counts(found)}, but {_list_counts(expected)} were chosen"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, _REPORT)
    floating, floating_before = _count_floating(model), _count_floating(before)
    if floating != floating_before:
        problem = f"float32 operators are {_list_counts(floating)}, but were {_list_counts(floating_before)}"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, _REPORT)
    executed = executed_operators(data)
    if rounded := executed.keys() & ROUNDED:
        problem = f"ONNX Runtime computes {', '.join(sorted(rounded))} in int8"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, _REPORT)
    if sum(executed[name] for name in INTEGER) == 0:
        problem = f"ONNX Runtime computes none of {len(chosen)} products in int8"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, _REPORT)
    macs = sum(product.macs for product in products)
    return Int8Verification(
        before=dict(Counter(product.kind for product in products)),
        quantized=dict(Counter(product.kind for product in chosen)),
        executed={name: executed[name] for name in sorted(INTEGER & executed.keys())},
        floating=dict(floating),
        weights=sum(product.weights for product in chosen) / numbers,
        macs=sum(product.macs for product in chosen) / macs if macs else math.nan,
    )


def require_sound_scales(model: ModelProto) -> None:
    """Raise unless every scale of a graph is positive and finite, and no activation has scale 1 and zero point 0.

    Raises:
        GossamerError: ``E-VALUE``.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    remedy = "calibrate with images like the training images, or keep this layer in float32"
    for name, tensor in constants.items():
        # Networks have parameters of that name too; those of the quantizer have a zero point next to them.
        if name.endswith("_scale") and f"{name.removesuffix('_scale')}_zero_point" in constants:
            scales = numpy_helper.to_array(tensor).astype(np.float64)
            if not (np.isfinite(scales).all() and (scales > 0).all()):
                value = scales.reshape(-1)[~((scales > 0) & np.isfinite(scales)).reshape(-1)][0]
                problem = f"{value:g} is not a positive, finite scale"
                raise GossamerError(ErrorCode.VALUE, name, problem, remedy)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            if scale.size == 1 and float(scale.reshape(-1)[0]) == 1.0 and int(zero.reshape(-1)[0]) == 0:
                problem = "has the scale 1 and the zero point 0: calibration saw only zeros there"
                raise GossamerError(ErrorCode.VALUE, node.input[0], problem, remedy)


def executed_operators(data: bytes) -> Counter[str]:
    """Return the number of operators of a graph after ONNX Runtime has optimized it for this machine, by operator."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(path).graph.node)


def require_varied_logits(reference: np.ndarray, logits: np.ndarray) -> None:
    """Raise unless logits are finite and vary over the images about as much as those in float32.

    Args:
        reference: Logits in float32, ``(images, ...)``.
        logits: Logits of the same images in int8.

    Raises:
        GossamerError: ``E-VALUE``.
    """
    if not np.isfinite(logits).all():
        problem = f"{int((~np.isfinite(logits)).sum())} logits are not finite"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another scheme")
    if len(logits) > 1:
        usual, spread = (float(np.std(values, axis=0, dtype=np.float64).mean()) for values in (reference, logits))
        if spread <= MIN_SPREAD * usual:
            problem = f"logits vary by {spread:.2g} over {len(logits)} images, those in float32 by {usual:.2g}"
            raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another scheme")


def measure_sqnr_db(reference: np.ndarray, logits: np.ndarray) -> float:
    """Return the ratio of the power of a signal and of its quantization noise, in dB; infinite without noise.

    Args:
        reference: Logits in float32.
        logits: Logits in int8.
    """
    reference = reference.astype(np.float64)
    noise = float(np.square(reference - logits).sum())
    signal = float(np.square(reference).sum())
    if math.isnan(noise):
        return -math.inf
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)


def _count_quantized(model: ModelProto) -> Counter[str]:
    """Return how many convolutions and matrix products have both factors in int8."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}

    def is_int8(name: str) -> bool:
        source = producers.get(name)
        return source is not None and source.op_type == "DequantizeLinear" and _reads_int8(source, producers, constants)

    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in KINDS and is_int8(node.input[0]) and is_int8(node.input[1]):
            found["Conv" if node.op_type == "Conv" else "MatMul"] += 1
        elif node.op_type == "MatMulInteger" and node.input[1] in constants:
            found["MatMul"] += 1
    return found


def _reads_int8(node: NodeProto, producers: dict[str, NodeProto], constants: dict[str, Any]) -> bool:
    """Return whether a ``DequantizeLinear`` reads int8: a constant, or the result of a ``QuantizeLinear``."""
    given = node.input[0]
    if given in constants:
        return constants[given].data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    return given in producers and producers[given].op_type == "QuantizeLinear"


def _count_floating(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node if node.op_type in FLOATING)


def _list_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
