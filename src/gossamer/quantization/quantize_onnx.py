"""A graph in floating point to one whose products with weights are in 8 bits, by ONNX Runtime's quantizer.

``dynamic``: weights are int8, a scale for each output; the scale of an activation is found anew in each run, over the
whole batch. ``static``: the scales of activations are fixed beforehand, from calibration data.

A real number x is stored as ``q = round(x / scale) + zero_point``. Activations are uint8 with a zero point, weights
int8 with a scale for each output channel and the zero point 0 (U8S8). Operators that are not named stay as they are, so
that LayerNorm, softmax, GELU, sums over tokens and products of two activations are computed in float32. What a matrix
product gives is not rounded again; a convolution's result is, since its kernel gives 8 bits.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

from gossamer.errors import ErrorCode, GossamerError
from gossamer.quantization.calibrate import CalibrationBatches
from gossamer.quantization.products import KINDS, Product, clean_graph

ActivationRange = Literal["minmax", "percentile"]
PERCENTILE = 99.99
"""Of the values that calibration met: what lies beyond is clipped."""
_METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}


@dataclass(frozen=True, kw_only=True)
class QuantizerSettings:
    """How numbers become 8 bits.

    Attributes:
        range: of an activation: everything that calibration met, or all but the outermost.
        reduce_range: weights have 7 bits. Without VNNI or the like, a processor adds products of 8 bits in 16 bits,
            which overflow.

    Raises:
        GossamerError: ``E-CONFIG``.
    """

    range: ActivationRange = "minmax"
    reduce_range: bool = False

    def __post_init__(self) -> None:
        if self.range not in get_args(ActivationRange):
            known = ", ".join(get_args(ActivationRange))
            raise GossamerError(ErrorCode.CONFIG, "range", f"there is no {self.range!r}", f"use one of {known}")


def quantize_dynamically(model: ModelProto, products: Sequence[Product], scheme: QuantizerSettings) -> bytes:
    """Return the graph with the weights of its matrix products in int8; convolutions stay in floating point.

    Args:
        model: a prepared graph.
        products: of the graph, which are to be in 8 bits.
        scheme: how.
    """
    # ONNX Runtime writes a Gemm as a MatMul with a name of its own before it looks at names.
    names = [name for p in products if p.kind != "Conv" for name in (p.node, f"{p.node}_MatMul")]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        given, made = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, given)
        quantize_dynamic(
            given,
            made,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=scheme.reduce_range,
            weight_type=QuantType.QInt8,
        )
        return _serialized(made)


class StaticQuantizer:
    """A graph whose activations were measured once, to be quantized as often as one likes; a context.

    Args:
        model: a prepared graph.
        windows: float32 ``(count, channels, rows, columns)`` that activations are measured with.
        scheme: how.
    """

    def __init__(self, model: ModelProto, windows: np.ndarray, scheme: QuantizerSettings) -> None:
        self.scheme = scheme
        self._model = model
        self._windows = windows
        self._folder = tempfile.TemporaryDirectory()
        self._given, self._ranges = Path(self._folder.name) / "float32.onnx", Path(self._folder.name) / "ranges.json"
        self._relus = _relu_after(model)

    def __enter__(self) -> StaticQuantizer:
        """Write the graph where ONNX Runtime reads it."""
        onnx.save(self._model, self._given)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was written."""
        self._folder.cleanup()

    def __call__(self, products: Collection[Product]) -> bytes:
        """Return the graph with ``products`` in 8 bits, in the form of ``QuantizeLinear`` and ``DequantizeLinear``."""
        made = Path(self._folder.name) / "int8.onnx"
        names = [product.node for product in products]
        # A ReLU behind a convolution becomes part of the range of its result.
        names += [self._relus[name] for name in names if name in self._relus]
        with _quiet():
            quantize_static(
                self._given,
                made,
                None if self._ranges.is_file() else CalibrationBatches(self._windows, self._model.graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*KINDS, "Relu"],
                nodes_to_quantize=names,
                per_channel=True,
                reduce_range=self.scheme.reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=_METHODS[self.scheme.range],
                calibration_cache_path=self._ranges,
                extra_options={
                    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
                    # Histograms are filled a batch at a time: all activations at once would not fit into memory.
                    **(
                        {"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1}
                        if self.scheme.range != "minmax"
                        else {}
                    ),
                },
            )
        return _serialized(made)


def _relu_after(model: ModelProto) -> dict[str, str]:
    """Return the ReLU that alone reads the result of a convolution, by the convolution's name."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for node in model.graph.node:
        after = readers.get(node.output[0], [])
        if node.op_type == "Conv" and len(after) == 1 and after[0].op_type == "Relu":
            found[node.name] = after[0].name
    return found


def _serialized(path: Path) -> bytes:
    model = clean_graph(onnx.load(path))
    model.producer_name, model.producer_version = "gossamer", ""
    return model.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's remarks from the user's terminal, where standard output may be JSON."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
