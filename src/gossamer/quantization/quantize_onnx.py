"""Quantization of the products with weights in a float32 graph to int8, by ONNX Runtime's quantizer.

``dynamic``: weights are int8 with a scale for each output; the scale of an activation is computed in each run, over the
whole batch. ``static``: the scales of activations are fixed in advance, from calibration data.

A real number x is stored as ``q = round(x / scale) + zero_point``. Activations are uint8 with a zero point, weights
int8 with a scale for each output channel and the zero point 0 (U8S8). Operators that are not named are unchanged, so
that LayerNorm, softmax, GELU, sums over tokens and products of two activations are computed in float32. The result of a
matrix product is not rounded again; that of a convolution is, since its kernel returns 8 bits.
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

from gossamer.checks import require_one_of
from gossamer.quantization.calibrate import CalibrationBatches
from gossamer.quantization.products import KINDS, Product, clean_graph, find_readers

ActivationRange = Literal["minmax", "percentile"]
PERCENTILE = 99.99
"""Percentile of the calibration values above which activations are clipped."""
_METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}


@dataclass(frozen=True, kw_only=True)
class QuantizerSettings:
    """Representation of numbers in int8.

    Attributes:
        range: Range of an activation: ``minmax`` for all calibration values, ``percentile`` without outliers.
        reduce_range: Whether weights have 7 bits. Without VNNI or a similar instruction set, a processor adds products
            of 8-bit numbers in 16 bits, which overflow.

    Raises:
        GossamerError: ``E-CONFIG``.
    """

    range: ActivationRange = "minmax"
    reduce_range: bool = False

    def __post_init__(self) -> None:
        require_one_of(self, "range", get_args(ActivationRange))


def quantize_dynamically(model: ModelProto, products: Sequence[Product], settings: QuantizerSettings) -> bytes:
    """Return the graph with the weights of its matrix products in int8; convolutions stay in float32.

    Args:
        model: Prepared graph.
        products: Products to quantize.
        settings: Representation of numbers in int8.
    """
    # ONNX Runtime rewrites a Gemm as a MatMul with another name before it compares names.
    names = [name for p in products if p.kind != "Conv" for name in (p.node, f"{p.node}_MatMul")]
    with tempfile.TemporaryDirectory() as folder, _silence_quantizer():
        given, made = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, given)
        quantize_dynamic(
            given,
            made,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=settings.reduce_range,
            weight_type=QuantType.QInt8,
        )
        return _read_model(made)


class StaticQuantizer:
    """A graph whose activations are measured once and that can be quantized many times; a context manager.

    Args:
        model: Prepared graph.
        windows: Calibration inputs, float32 ``(count, channels, rows, columns)``.
        settings: Representation of numbers in int8.
    """

    def __init__(self, model: ModelProto, windows: np.ndarray, settings: QuantizerSettings) -> None:
        self.settings = settings
        self._model = model
        self._windows = windows
        self._folder = tempfile.TemporaryDirectory()
        self._given, self._ranges = Path(self._folder.name) / "float32.onnx", Path(self._folder.name) / "ranges.json"
        self._relus = _find_relus(model)

    def __enter__(self) -> StaticQuantizer:
        """Write the graph into a temporary folder, where ONNX Runtime reads it."""
        onnx.save(self._model, self._given)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary folder."""
        self._folder.cleanup()

    def __call__(self, products: Collection[Product]) -> bytes:
        """Return the graph with ``products`` in int8, in the form of ``QuantizeLinear`` and ``DequantizeLinear``."""
        made = Path(self._folder.name) / "int8.onnx"
        names = [product.node for product in products]
        # A ReLU after a convolution becomes part of the range of its result.
        names += [self._relus[name] for name in names if name in self._relus]
        with _silence_quantizer():
            quantize_static(
                self._given,
                made,
                None if self._ranges.is_file() else CalibrationBatches(self._windows, self._model.graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*KINDS, "Relu"],
                nodes_to_quantize=names,
                per_channel=True,
                reduce_range=self.settings.reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=_METHODS[self.settings.range],
                calibration_cache_path=self._ranges,
                extra_options={
                    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
                    # Histograms are filled a batch at a time: all activations at once would not fit into memory.
                    **(
                        {"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1}
                        if self.settings.range != "minmax"
                        else {}
                    ),
                },
            )
        return _read_model(made)


def _find_relus(model: ModelProto) -> dict[str, str]:
    """Return the ReLU that is the only reader of a convolution, by the name of the convolution."""
    readers = find_readers(model)
    found = {}
    for node in model.graph.node:
        after = readers[node.output[0]]
        if node.op_type == "Conv" and len(after) == 1 and after[0].op_type == "Relu":
            found[node.name] = after[0].name
    return found


def _read_model(path: Path) -> bytes:
    model = clean_graph(onnx.load(path))
    model.producer_name, model.producer_version = "gossamer", ""
    return model.SerializeToString()


@contextlib.contextmanager
def _silence_quantizer() -> Iterator[None]:
    """Suppress messages of the quantizer on the terminal, where standard output may be JSON."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
