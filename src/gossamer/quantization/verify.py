"""Proof that a graph is in 8 bits and still says something, since quantizers fail silently.

Three ways of failing are known: operators that were to be quantized stay in floating point, activations that were never
measured get the scale 1 and the zero point 0, and the network then answers the same for every image.
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
from onnx import ModelProto, NodeProto, numpy_helper

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError
from gossamer.quantization.products import KINDS, Product

INTEGER = {
    "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger", "DynamicQuantizeMatMul",
    "ConvInteger",
}  # fmt: skip
"""Products of 8 bits in ONNX Runtime."""
ROUNDED = {"QLinearSoftmax", "QLinearSigmoid", "QLinearReduceMean", "QLinearLeakyRelu"}
"""What ONNX Runtime makes of operators that are to stay in floating point, if their inputs and results are rounded."""
FLOATING = ("Softmax", "LayerNormalization", "InstanceNormalization", "Gelu", "Erf")
SPREAD = 0.01
"""Least spread of the logits over images, as a share of that of the network in floating point."""


@dataclass(frozen=True, kw_only=True)
class Int8Verification:
    """What was counted in a graph of 8 bits, beside the one in floating point.

    Attributes:
        before: products with weights of each kind, before.
        quantized: of them, those whose factors are both in 8 bits.
        executed: products of 8 bits after ONNX Runtime has optimized the graph for this machine, by operator.
        floating: softmax, normalizations and GELU, which are as many as before.
        weights: share of all numbers in floating point that are in 8 bits now.
        macs: share of the multiply-accumulates of products with weights that are in 8 bits now.
    """

    before: dict[str, int]
    quantized: dict[str, int]
    executed: dict[str, int]
    floating: dict[str, int]
    weights: float
    macs: float

    def to_json(self) -> dict[str, Any]:
        """Return the proof as data."""
        return config.to_json(self)


def verify_int8_graph(
    before: ModelProto, data: bytes, products: Sequence[Product], chosen: Sequence[Product], numbers: int
) -> Int8Verification:
    """Return what was counted, if all of it is as it must be.

    Args:
        before: the prepared graph in floating point.
        data: the same in 8 bits.
        products: of the graph.
        chosen: of the products, those that are to be in 8 bits.
        numbers: that the graph holds in floating point.

    Raises:
        GossamerError: ``E-VALUE`` for a degenerate scale, and where other operators are in 8 bits than were chosen.
    """
    model = onnx.load_from_string(data)
    require_sound_scales(model)
    wanted = Counter("Conv" if product.kind == "Conv" else "MatMul" for product in chosen)
    found = _quantized(model)
    if found != wanted:
        problem = f"products in 8 bits are {_listed(found)}; chosen were {_listed(wanted)}"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another rung, and report it")
    floating = _floating(model)
    if floating != _floating(before):
        problem = f"operators in floating point are {_listed(floating)}; before there were {_listed(_floating(before))}"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another rung, and report it")
    executed = executed_operators(data)
    if rounded := executed.keys() & ROUNDED:
        problem = f"ONNX Runtime computes {', '.join(sorted(rounded))} in 8 bits"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another rung, and report it")
    if sum(executed[name] for name in INTEGER) == 0:
        problem = f"ONNX Runtime computes none of {len(chosen)} products in 8 bits"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another rung, and report it")
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
    """Raise unless every scale of a graph is a positive number, and no activation has the scale 1 and the zero point 0.

    Raises:
        GossamerError: ``E-VALUE``.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    remedy = "calibrate with images like those that the network was trained on, or keep that layer in floating point"
    for name, tensor in constants.items():
        # Networks have parameters of that name too; those of the quantizer come with a zero point.
        if name.endswith("_scale") and f"{name.removesuffix('_scale')}_zero_point" in constants:
            scales = numpy_helper.to_array(tensor).astype(np.float64)
            if not (np.isfinite(scales).all() and (scales > 0).all()):
                met = scales.reshape(-1)[~((scales > 0) & np.isfinite(scales)).reshape(-1)][0]
                raise GossamerError(ErrorCode.VALUE, name, f"{met:g} is no scale, a positive number is wanted", remedy)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            if scale.size == 1 and float(scale.reshape(-1)[0]) == 1.0 and int(zero.reshape(-1)[0]) == 0:
                problem = "has the scale 1 and the zero point 0: calibration met nothing but zeros there"
                raise GossamerError(ErrorCode.VALUE, node.input[0], problem, remedy)


def executed_operators(data: bytes) -> Counter[str]:
    """Return the operators of a graph after ONNX Runtime has optimized it for this machine."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(path).graph.node)


def require_varied_logits(reference: np.ndarray, logits: np.ndarray) -> None:
    """Raise unless logits are finite and vary over the images as those of floating point do.

    Args:
        reference: logits ``(images, ...)`` of the network in floating point.
        logits: of the same images, in 8 bits.

    Raises:
        GossamerError: ``E-VALUE``.
    """
    if not np.isfinite(logits).all():
        problem = f"{int((~np.isfinite(logits)).sum())} logits are not finite"
        raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another rung")
    if len(logits) > 1:
        usual, met = (float(np.std(values, axis=0, dtype=np.float64).mean()) for values in (reference, logits))
        if met <= SPREAD * usual:
            problem = f"logits vary by {met:.2g} over {len(logits)} images, those of float32 by {usual:.2g}"
            raise GossamerError(ErrorCode.VALUE, "int8", problem, "use another rung")


def measure_sqnr_db(reference: np.ndarray, logits: np.ndarray) -> float:
    """Return the power of a signal over that of its quantization noise, in dB; infinite where they are equal."""
    reference = reference.astype(np.float64)
    noise = float(np.square(reference - logits).sum())
    signal = float(np.square(reference).sum())
    if math.isnan(noise):
        return -math.inf
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)


def _quantized(model: ModelProto) -> Counter[str]:
    """Return how many convolutions and matrix products have two factors in 8 bits."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}

    def eight_bits(name: str) -> bool:
        source = producers.get(name)
        return (
            source is not None and source.op_type == "DequantizeLinear" and _is_eight_bits(source, producers, constants)
        )

    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in KINDS and eight_bits(node.input[0]) and eight_bits(node.input[1]):
            found["Conv" if node.op_type == "Conv" else "MatMul"] += 1
        elif node.op_type == "MatMulInteger" and node.input[1] in constants:
            found["MatMul"] += 1
    return found


def _is_eight_bits(node: NodeProto, producers: dict[str, NodeProto], constants: dict[str, Any]) -> bool:
    """Return whether a ``DequantizeLinear`` reads 8 bits: a constant of them, or what was rounded just before."""
    given = node.input[0]
    if given in constants:
        return constants[given].data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    return given in producers and producers[given].op_type == "QuantizeLinear"


def _floating(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node if node.op_type in FLOATING)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
