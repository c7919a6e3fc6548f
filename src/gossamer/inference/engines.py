"""The engines that compute the network of a bundle: ONNX Runtime, and OpenVINO if it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError, install_hint

EngineName = Literal["onnxruntime", "openvino"]
Shape = tuple[int | None, ...]
"""Shape of a tensor; None for an axis of any size."""


@dataclass(frozen=True)
class Engine:
    """A network loaded into an engine.

    Attributes:
        name: Name of the engine, a key of ``ENGINES``.
        version: Version of the engine's package.
        input_shape: Shape of the only input, float32.
        output_shape: Shape of the only output, float32.
        run: Function of images to logits; one call at a time.
    """

    name: str
    version: str
    input_shape: Shape
    output_shape: Shape
    run: Callable[[np.ndarray], np.ndarray]


def load_engine(name: str, model: bytes, where: Path, threads: int | None = None) -> Engine:
    """Load a model into an engine.

    Args:
        name: Name of the engine, a key of ``ENGINES``.
        model: Content of an ONNX file.
        where: Path of the file, for errors.
        threads: Number of CPU threads, 1 or more (default: chosen by the engine).

    Raises:
        GossamerError: ``E-CONFIG`` for an unknown name or fewer than 1 thread, ``E-CODEC`` for an engine that is not
            installed, ``E-FORMAT`` for a model that the engine does not accept.
    """
    load = config.find_entry(ENGINES, name, "engine")
    if threads is not None and threads < 1:
        raise GossamerError(ErrorCode.CONFIG, "threads", f"{threads} is less than 1", "use 1 or more")
    return load(model, where, threads)


def _load_onnxruntime(model: bytes, where: Path, threads: int | None) -> Engine:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # errors are raised as exceptions
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or 0
    # Threads that wait for each other sleep: on a shared CPU, spinning doubles the time of a run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise _load_error("ONNX Runtime", where, error) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _require_one("ONNX Runtime", where, len(inputs), len(outputs))
    if (inputs[0].type, outputs[0].type) != ("tensor(float)", "tensor(float)"):
        problem = f"takes {inputs[0].type} and returns {outputs[0].type}, both must be tensor(float)"
        raise GossamerError(ErrorCode.FORMAT, where, problem, "export the bundle again")
    feed, wanted = inputs[0].name, [outputs[0].name]

    def run(windows: np.ndarray) -> np.ndarray:
        try:
            return session.run(wanted, {feed: windows})[0]  # type: ignore[return-value]
        except Exception as error:
            raise _run_error("ONNX Runtime", where, windows, error) from error

    takes, gives = (
        tuple(side if isinstance(side, int) else None for side in one[0].shape) for one in (inputs, outputs)
    )
    return Engine("onnxruntime", onnxruntime.__version__, takes, gives, run)


def _load_openvino(model: bytes, where: Path, threads: int | None) -> Engine:
    try:
        import openvino  # type: ignore[import-not-found]
    except ImportError as error:
        problem = "OpenVINO is not installed, or cannot be loaded"
        raise GossamerError(ErrorCode.CODEC, "engine", problem, install_hint("openvino")) from error
    # CPUs with bfloat16 would otherwise round every product to it, with other results than in training.
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        core = openvino.Core()
        read = core.read_model(model)
        compiled = core.compile_model(read, "CPU", properties)
        request = compiled.create_infer_request()
    except Exception as error:
        raise _load_error("OpenVINO", where, error) from error
    _require_one("OpenVINO", where, len(compiled.inputs), len(compiled.outputs))

    def run(windows: np.ndarray) -> np.ndarray:
        try:
            request.infer({0: windows}, share_inputs=True)
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)
        except Exception as error:
            raise _run_error("OpenVINO", where, windows, error) from error

    takes, gives = (
        tuple(side.get_length() if side.is_static else None for side in one[0].get_partial_shape())
        for one in (compiled.inputs, compiled.outputs)
    )
    return Engine("openvino", openvino.__version__, takes, gives, run)


ENGINES: Mapping[str, Callable[[bytes, Path, int | None], Engine]] = {
    "onnxruntime": _load_onnxruntime,
    "openvino": _load_openvino,
}


def _require_one(name: str, where: Path, inputs: int, outputs: int) -> None:
    if (inputs, outputs) != (1, 1):
        problem = f"has {inputs} inputs and {outputs} outputs in {name}, a bundle has one of each"
        raise GossamerError(ErrorCode.FORMAT, where, problem, "export the bundle again")


def _load_error(name: str, where: Path, error: Exception) -> GossamerError:
    if isinstance(error, MemoryError):
        raise error
    problem = f"{name} does not accept it ({_first_line(error)})"
    return GossamerError(ErrorCode.FORMAT, where, problem, "update Gossamer, or export the bundle again")


def _run_error(name: str, where: Path, windows: np.ndarray, error: Exception) -> GossamerError:
    size = "x".join(map(str, windows.shape))
    text = _first_line(error)
    if isinstance(error, MemoryError) or "alloc" in text.lower():
        problem = f"not enough memory for images of {size} in {name}"
        return GossamerError(ErrorCode.BUSY, where, problem, "free some memory and run again")
    problem = f"{name} cannot compute images of {size} ({text})"
    return GossamerError(ErrorCode.UNSUPPORTED, where, problem, "use another engine, or export the bundle again")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
