"""The check that a file is an ONNX model that contains all of its numbers, without the package ``onnx``.

An ONNX file is a message of Protocol Buffers: a sequence of fields, each a number and a value whose length is known
before it is read. Only fields that lead to a tensor are followed; the tensor's numbers are skipped. Names and numbers
of fields are those of ``onnx.proto`` of ONNX.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from gossamer.errors import ErrorCode, GossamerError

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
"""Number of bytes of a value of fixed length, by its wire type."""

FIELDS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
        22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}  # fmt: skip
"""Messages that are fields of a message, by the number of the field."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of ``TensorProto``; a value other than 0 of the second means another file."""
DEEPEST = 32
"""Largest depth of graphs within graphs."""


def require_complete(data: bytes, where: str | Path) -> None:
    """Raise unless ``data`` is an ONNX model that contains all of its numbers.

    Raises:
        GossamerError: ``E-SECURITY`` if a tensor is in another file, ``E-FORMAT`` if this is not an ONNX model.
    """
    try:
        found = _has_external_tensor(memoryview(data), "ModelProto", DEEPEST)
    except (ValueError, IndexError) as error:
        problem = f"is not an ONNX model ({error})"
        raise GossamerError(ErrorCode.FORMAT, where, problem, "export the bundle again") from error
    if found:
        problem = "has tensors in other files, but a bundle's model must contain all of them"
        raise GossamerError(ErrorCode.SECURITY, where, problem, "export the bundle again, and do not trust this one")


def _has_external_tensor(message: memoryview, kind: str, depth: int) -> bool:
    """Return whether a tensor of the message is in another file."""
    if depth == 0:
        raise ValueError(f"graphs within graphs deeper than {DEEPEST}")
    inner, tensor, fields = FIELDS[kind], kind == "TensorProto", 0
    for number, value in _read_fields(message):
        fields += 1
        if tensor and number in (EXTERNAL_DATA, DATA_LOCATION) and value != 0:
            return True
        if number in inner:
            if not isinstance(value, memoryview):
                raise ValueError(f"field {number} of {kind} is not a message")
            if _has_external_tensor(value, inner[number], depth - (inner[number] == "GraphProto")):
                return True
    if kind == "ModelProto" and not fields:
        raise ValueError("it is empty")
    return False


def _read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _read_varint(message, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _read_varint(message, position)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > len(message):
            raise ValueError(f"a field of {length} bytes, but only {len(message) - position} remain")
        yield number, message[position : position + length]
        position += length


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(f"a number of more than 64 bits at byte {position}")
