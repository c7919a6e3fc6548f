"""A model is read far enough to know that it holds all of its numbers itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.onnx_file import DATA_LOCATION, EXTERNAL_DATA, FIELDS, require_complete
from made_bundles import onnx_model


def made() -> Any:
    return onnx_model(2, 3, pooled=False, sides=[5, 7])


def elsewhere(name: str = "far") -> Any:
    tensor = numpy_helper.from_array(np.arange(6, dtype=np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def message(number: int, data: bytes) -> bytes:
    """A field of Protocol Buffers that holds ``data``."""
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def in_initializer(model: Any) -> None:
    model.graph.initializer.append(elsewhere())


def only_by_name(model: Any) -> None:
    tensor = elsewhere()
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


def in_constant(model: Any) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=elsewhere()))


def in_branch(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Constant", [], ["d"], value=elsewhere())], "inner", [], [])
    outer = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=outer, else_branch=outer))


def in_function(model: Any) -> None:
    node = helper.make_node("Constant", [], ["c"], value=elsewhere())
    model.functions.append(helper.make_function("d", "f", [], ["c"], [node], [helper.make_opsetid("", 17)]))


def in_sparse(model: Any) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(elsewhere())


@pytest.mark.parametrize("put", [in_initializer, only_by_name, in_constant, in_branch, in_function, in_sparse])
def test_tensors_in_other_files_are_refused(put: Any) -> None:
    model = made()
    require_complete(model.SerializeToString(), "model.onnx")
    put(model)
    with pytest.raises(GossamerError) as caught:
        require_complete(model.SerializeToString(), "model.onnx")
    assert (caught.value.code, caught.value.where) == (ErrorCode.SECURITY, "model.onnx")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "number", "deep"])
def test_files_that_are_not_models_are_refused(damage: str) -> None:
    data, graph = made().SerializeToString(), b""
    for _ in range(2000):  # a graph in an attribute of a node of a graph, again and again
        graph = message(1, message(5, message(6, graph)))
    damaged = {
        "empty": b"",
        "cut": data[:-9],
        "text": b"the patient has no fever",
        "number": b"\x08" + b"\xff" * 12,
        "deep": message(7, graph),
    }[damage]
    with pytest.raises(GossamerError) as caught:
        require_complete(damaged, "model.onnx")
    assert (caught.value.code, caught.value.where) == (ErrorCode.FORMAT, "model.onnx")


def test_every_way_to_a_tensor_is_followed() -> None:
    """By the definition that the package ``onnx`` carries."""
    known: dict[str, dict[int, str]] = {}

    def leads(descriptor: Any, seen: tuple[str, ...] = ()) -> bool:
        if descriptor.name == "TensorProto":
            return True
        inner = [f.message_type for f in descriptor.fields if f.message_type and f.message_type.name not in seen]
        return any(leads(each, (*seen, descriptor.name)) for each in inner)

    def visit(descriptor: Any) -> None:
        if descriptor.name in known:
            return
        found = {f.number: f.message_type for f in descriptor.fields if f.message_type and leads(f.message_type)}
        known[descriptor.name] = {number: kind.name for number, kind in found.items()}
        for kind in found.values():
            visit(kind)

    visit(onnx.ModelProto.DESCRIPTOR)
    assert known == FIELDS
    numbers = {field.name: field.number for field in TensorProto.DESCRIPTOR.fields}
    assert (numbers["external_data"], numbers["data_location"]) == (EXTERNAL_DATA, DATA_LOCATION)
