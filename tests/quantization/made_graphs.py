"""Graphs made by hand, small enough to be quantized in a moment."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import made_bundles
from gossamer.data import ClassificationDataset
from gossamer.data.transforms import Channels, Preprocessing, Resize, ScaleIntensity, Standardize
from gossamer.inference.manifest import InputSpec, Manifest, OutputSpec

PRODUCTS = {"stem": "Conv", "block.qkv": "MatMul", "block.output": "MatMul", "head": "Gemm"}
"""Of the transformer below, by the module that their weight or bias is of."""


class Builder:
    """Collects operators and constants."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def weight(self, name: str, *shape: int) -> str:
        scale = np.prod(shape[:-1] if len(shape) == 2 else shape[1:]) ** -0.5
        return self.constant(name, scale * self.generator.standard_normal(shape))

    def constant(self, name: str, values: Any, kind: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def add(self, kind: str, inputs: list[str], outputs: str | list[str], **attributes: Any) -> str:
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def model(self, size: tuple[int, int, int], classes: int) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "made by hand",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *size])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
            self.constants,
        )
        # A shape that contradicts what is inferred, as exporters leave them behind.
        graph.value_info.append(helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", 7, 7]))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def transformer(classes: int = 2, size: tuple[int, int] = (16, 24), dim: int = 48) -> Any:
    """A stem with ReLU, one block of softmax attention, LayerNorm and GELU, and a classifier of transposed weights.

    The weight of queries, keys and values is stored transposed and is split and scaled in the graph, as exporters leave
    it.
    """
    b = Builder()
    stem = b.add("Conv", ["images", b.weight("stem.weight", dim, 1, 4, 4), b.weight("stem.bias", dim)], "stem_out",
                 strides=[4, 4])  # fmt: skip
    positive = b.add("Relu", [stem], "positive")
    flat = b.add("Reshape", [positive, b.constant("flat", [0, dim, -1], np.int64)], "planes")
    tokens = b.add("Transpose", [flat], "tokens", perm=[0, 2, 1])
    ones, zeros = b.constant("norm.weight", np.ones(dim)), b.constant("norm.bias", np.full(dim, 0.1))
    normed = b.add("LayerNormalization", [tokens, ones, zeros], "normed", axis=-1)
    stored = b.weight("block.qkv.weight", 4 * dim, dim)
    b.add("Split", [stored, b.constant("parts", [3 * dim, dim], np.int64)], ["wanted", "unused"], axis=0)
    scaled = b.add("Mul", ["wanted", b.constant("two", 2.0)], "scaled")
    qkv = b.add("MatMul", [normed, b.add("Transpose", [scaled], "turned", perm=[1, 0])], "qkv")
    b.add("Split", [qkv], ["q", "k", "v"], axis=-1, num_outputs=3)
    logits = b.add("MatMul", ["q", b.add("Transpose", ["k"], "k_turned", perm=[0, 2, 1])], "scores")
    weights = b.add("Softmax", [logits], "weights", axis=-1)
    mixed = b.add("MatMul", [weights, "v"], "mixed")
    out = b.add("MatMul", [mixed, b.weight("projection", dim, dim)], "projected")
    biased = b.add("Add", [out, b.constant("block.output.bias", 0.2 * b.generator.standard_normal(dim))], "biased")
    gate = b.add("MatMul", [b.add("Gelu", [biased], "gelu"), b.weight("gate.weight", dim, 1)], "gate")
    gated = b.add("Mul", ["gelu", gate], "gated")
    pooled = b.add("ReduceMean", [gated, b.constant("axes", [1], np.int64)], "pooled", keepdims=0)
    b.add("Gemm", [pooled, b.weight("head.weight", classes, dim), b.constant("head.bias", np.zeros(classes))], "logits",
          transB=1)  # fmt: skip
    return b.model((1, *size), classes)


def perceptron(width: int = 160, planted: int | None = None) -> Any:
    """Four matrix products with ReLU between them; before one of them a channel is 4000 times as large.

    Its weights are as much smaller, so that nothing changes but the range of an activation.
    """
    b = Builder(1)
    current = b.add("Flatten", ["images"], "layer0")
    sides = [16 * 24, width, width, width, 3]
    for number, (before, after) in enumerate(pairwise(sides)):
        weight = np.asarray(b.generator.standard_normal((before, after)) * (2 / before) ** 0.5, np.float32)
        if number == planted:
            factors = np.ones(before, np.float32)
            factors[3] = 4000
            current = b.add("Mul", [current, b.constant("factors", factors)], "planted")
            weight /= factors[:, None]
        current = b.add("MatMul", [current, b.constant(f"layers.{number}.weight", weight)], f"product{number}")
        current = (
            b.add("Relu", [current], f"layer{number + 1}") if number < 3 else b.add("Identity", [current], "logits")
        )
    return b.model((1, 16, 24), 3)


def convolutions(classes: int = 2, size: tuple[int, int] = (16, 24)) -> Any:
    """One convolution, as large as the image, and no matrix product."""
    b = Builder(2)
    planes = b.add("Conv", ["images", b.weight("head.weight", classes, 1, *size)], "planes")
    b.add("Flatten", [planes], "logits")
    return b.model((1, *size), classes)


def write(folder: Path, dataset: ClassificationDataset, model: bytes | None = None) -> Path:
    """A bundle of the transformer that names ``dataset`` as what it was trained on."""
    steps = (Channels(1), ScaleIntensity(0, 65535, "uint16"), Resize(16, 24), Standardize(0.4, 0.2))
    counts = {split: sum(sample.split == split for sample in dataset.samples) for split in ("train", "val", "test")}
    manifest = Manifest(
        gossamer="0", created="2025-01-01T00:00:00Z", task="classify", preset="by_hand", attention=None,
        input=InputSpec(channels=1, window=(16, 24), dynamic=False, stored="uint16"),
        output=OutputSpec(classes=dataset.classes, multi_label=False),
        preprocessing=Preprocessing(steps).to_json(), layout=dataset.layout,
        quality={"auroc": {"value": 0.5, "low": 0.4, "high": 0.6, "trivial": 0.5}},
        source={
            "name": "chest", "fingerprint": dataset.fingerprint(), "samples": counts, "seed": 0, "evaluated": "test",
            "groups": 9,
        },
        licence={"weights": "CC0", "data": None},
    )  # fmt: skip
    return made_bundles.write_bundle(folder, manifest, model or transformer().SerializeToString())
