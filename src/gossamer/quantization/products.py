"""The products of a graph that can be in int8: convolutions and matrix products whose second factor is a weight.

Everything else stays in float32: LayerNorm, softmax, GELU, the statistics of sequence normalization, and
products of two activations (``Q K^T``, ``K^T V``), whose factors both change with the image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

KINDS = ("Conv", "MatMul", "Gemm")
PREPARED_MARK = {"onnx.quant.pre_process": "gossamer"}
"""Metadata that tells ONNX Runtime's quantizer that the graph was prepared."""
_FOLDABLE = {
    "Cast",
    "Concat",
    "Gather",
    "Identity",
    "Mul",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}


@dataclass(frozen=True)
class Product:
    """A product with a weight.

    Attributes:
        node: Name of the operator in the graph.
        label: Module of the network, if the graph names it, else the operator.
        kind: Operator, one of ``KINDS``.
        weights: Number of elements of the weight.
        macs: Multiply-accumulates for one image or window; 0 before ``count_product_macs``.
    """

    node: str
    label: str
    kind: str
    weights: int
    macs: int = 0


def prepare_graph(data: bytes) -> ModelProto:
    """Return the graph of an ONNX file, ready for quantization: weights are constants and operators have names.

    Shapes noted by an exporter are removed, since quantizers refuse them if they infer others. Weights that reach
    their product through constant operators (transposed, split, scaled) are computed once.

    Args:
        data: Content of the ONNX file.
    """
    model = onnx.load_from_string(data)
    clean_graph(model)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    _fold_weights(model)
    model.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=text) for key, text in PREPARED_MARK.items())
    return model


def clean_graph(model: ModelProto) -> ModelProto:
    """Remove metadata, documentation and noted shapes from a graph, and return it."""
    for message in (model, model.graph, *model.graph.node, *model.graph.initializer):
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    model.graph.ClearField("value_info")
    return model


def find_products(model: ModelProto) -> tuple[Product, ...]:
    """Return the products of a prepared graph that can be quantized, in its order.

    A product with one output, such as a gate, is a sum that decides something: it stays in float32.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    floats = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    readers = find_readers(model)
    found, seen = [], Counter()
    for node in model.graph.node:
        if node.op_type not in KINDS or node.input[1] not in floats or not _is_plain(node, shapes[node.input[1]]):
            continue
        label = _find_module(node, readers, floats)
        seen[label] += 1
        unique = label if seen[label] == 1 else f"{label} ({seen[label]})"
        found.append(Product(node.name, unique, node.op_type, int(np.prod(shapes[node.input[1]]))))
    return tuple(found)


def count_product_macs(model: ModelProto, products: Sequence[Product], window: np.ndarray) -> tuple[Product, ...]:
    """Return the products with their multiply-accumulates for one image or window.

    Args:
        model: Prepared graph.
        products: Products of the graph.
        window: Network input, float32 ``(1, channels, rows, columns)``.
    """
    if not products:
        return ()
    nodes = {node.name: node for node in model.graph.node}
    probed = ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    names = [nodes[product.node].output[0] for product in products]
    probed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = session.run(names, {session.get_inputs()[0].name: window[:1]})
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    counted = []
    for product, output in zip(products, outputs, strict=True):
        node = nodes[product.node]
        columns = _count_outputs(node, shapes[node.input[1]])
        counted.append(replace(product, macs=int(np.asarray(output).size) * (product.weights // columns)))
    return tuple(counted)


def count_weights(model: ModelProto) -> int:
    """Return the number of float32 constants of a graph."""
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)


def find_readers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Return the operators that read each value of a graph, by the name of the value; none for any other name."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _is_plain(node: NodeProto, shape: tuple[int, ...]) -> bool:
    if node.op_type == "Conv":
        return True
    if len(shape) != 2 or _count_outputs(node, shape) < 2:
        return False
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return (values.get("alpha", 1.0), values.get("beta", 1.0), values.get("transA", 0)) == (1.0, 1.0, 0)


def _count_outputs(node: NodeProto, shape: tuple[int, ...]) -> int:
    """Return the number of output channels of a weight."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return shape[0] if node.op_type == "Conv" or transposed else shape[-1]


def _find_module(node: NodeProto, readers: dict[str, list[NodeProto]], floats: set[str]) -> str:
    """Return the module of a product: that of its weight or, if an exporter renamed the weight, of its bias."""
    names = [*node.input[1:]]
    for reader in readers[node.output[0]]:
        if reader.op_type == "Add":
            names += [name for name in reader.input if name in floats]
    for name in names:
        module, dot, _ = name.rpartition(".")
        if dot and len(readers[name]) == 1:
            return module
    return node.name


def _fold_weights(model: ModelProto) -> None:
    """Replace computations from constants to a product's weight by their result."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    folded: dict[str, TensorProto] = {}

    def find_constant(name: str) -> TensorProto | None:
        if name in constants or name in folded:
            return constants.get(name) or folded[name]
        node = producers.get(name)
        if node is None or node.op_type not in _FOLDABLE:
            return None
        given = {key: find_constant(key) for key in node.input if key}
        if any(value is None for value in given.values()):
            return None
        results = _evaluate_node(model, node, {key: value for key, value in given.items() if value is not None})
        root = next((value.name for value in given.values() if value is not None and "." in value.name), name)
        for output, array in zip(node.output, results, strict=True):
            module = root.rpartition(".")[0]
            folded[output] = numpy_helper.from_array(array, f"{module}.{output}" if module else f"constant_{output}")
        return folded[name]

    renamed = set()
    for node in model.graph.node:
        if node.op_type in KINDS and node.input[1] not in constants:
            tensor = find_constant(node.input[1])
            if tensor is not None and (node.op_type == "Conv" or len(tensor.dims) == 2):
                if tensor.name not in renamed:
                    model.graph.initializer.append(tensor)
                    renamed.add(tensor.name)
                node.input[1] = tensor.name
    if renamed:
        _remove_unread(model)


def _evaluate_node(model: ModelProto, node: NodeProto, given: dict[str, TensorProto]) -> list[np.ndarray]:
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    inputs = [helper.make_tensor_value_info(name, value.data_type, None) for name, value in given.items()]
    graph = helper.make_graph([node], "constant", inputs, outputs)
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    arrays = {name: numpy_helper.to_array(value) for name, value in given.items()}
    return [np.ascontiguousarray(value) for value in ReferenceEvaluator(alone).run(None, arrays)]


def _remove_unread(model: ModelProto) -> None:
    """Remove operators whose results are not read, and constants that the remaining operators do not read."""
    graph, wanted = model.graph, {value.name for value in model.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):  # each operator is before its readers
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:]
    graph.node.extend(reversed(kept))
    del graph.initializer[:]
    graph.initializer.extend(constants)
