"""Engines agree with numpy, use the threads that they are given, and fail in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import open_bundle
from gossamer.inference.engines import ENGINES, load_engine
from made_bundles import WINDOW, numpy_logits, onnx_model

WHERE = Path("model.onnx")
TASKS = Path("/proc/self/task")


def segmenter() -> bytes:
    return onnx_model(2, 3, pooled=False, sides=["rows", "columns"]).SerializeToString()


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_engines_agree_with_numpy_on_every_size(name: str) -> None:
    pytest.importorskip(name)
    engine = load_engine(name, segmenter(), WHERE, 1)
    assert (engine.name, engine.input_shape) == (name, (None, 2, None, None))
    assert (len(engine.output_shape), engine.output_shape[1]) == (4, 3)
    kept = []
    for batch, rows, columns in ((1, 11, 13), (3, 24, 8), (2, 11, 13)):
        windows = np.random.default_rng(rows).normal(size=(batch, 2, rows, columns)).astype(np.float32)
        kept.append((engine.run(windows), numpy_logits(windows, 3, pooled=False)))
    for found, wanted in kept:  # a later run leaves the answers of an earlier one alone
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


@pytest.mark.skipif(not TASKS.is_dir(), reason="the system does not list threads")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_onnxruntime_starts_the_given_number_of_threads(threads: int) -> None:
    load_engine("onnxruntime", segmenter(), WHERE, 1)  # what it starts once stays
    before = len(list(TASKS.iterdir()))
    engine = load_engine("onnxruntime", segmenter(), WHERE, threads)
    assert len(list(TASKS.iterdir())) - before == threads - 1  # the caller computes too
    del engine


def test_unknown_engines_and_threads_are_refused(monkeypatch: pytest.MonkeyPatch, classifier_bundle: Path) -> None:
    def code(name: str, threads: int | None = None) -> ErrorCode:
        with pytest.raises(GossamerError) as caught:
            open_bundle(classifier_bundle, engine=name, threads=threads)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return caught.value.code

    assert code("onnxruntim") is ErrorCode.CONFIG
    assert code("onnxruntime", 0) is ErrorCode.CONFIG
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert code("openvino") is ErrorCode.CODEC


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> bytes:
    made = helper.make_graph(nodes, "made by hand", inputs, outputs)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()


def info(name: str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, ["batch", 1, "rows", "columns"])


@pytest.mark.parametrize(
    ("inputs", "outputs"), [([info("a"), info("b")], [info("c")]), ([info("a")], [info("c"), info("d")])]
)
def test_one_input_and_one_output_are_required(inputs: list[Any], outputs: list[Any]) -> None:
    nodes = [helper.make_node("Identity", [inputs[-1].name], [one.name]) for one in outputs]
    with pytest.raises(GossamerError) as caught:
        load_engine("onnxruntime", graph(nodes, inputs, outputs), WHERE)
    assert (caught.value.code, caught.value.where) == (ErrorCode.FORMAT, str(WHERE))
    assert f"{len(inputs)} inputs and {len(outputs)} outputs" in caught.value.problem


def test_images_are_float32() -> None:
    kind = TensorProto.UINT8
    data = graph([helper.make_node("Identity", ["a"], ["b"])], [info("a", kind)], [info("b", kind)])
    with pytest.raises(GossamerError) as caught:
        load_engine("onnxruntime", data, WHERE)
    assert caught.value.code is ErrorCode.FORMAT
    assert "uint8" in caught.value.problem


def test_an_error_while_running_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    wanted = helper.make_node("Constant", [], ["shape"], value_ints=[2, 7])
    nodes = [wanted, helper.make_node("Reshape", ["a", "shape"], ["b"])]
    data = graph(nodes, [info("a")], [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["batch", 7])])
    engine = load_engine("onnxruntime", data, WHERE, 1)
    assert engine.run(np.zeros((2, 1, 1, 7), np.float32)).shape == (2, 7)
    with pytest.raises(GossamerError) as caught:
        engine.run(np.zeros((2, 1, *WINDOW), np.float32))
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert "2x1x24x40" in caught.value.problem
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
