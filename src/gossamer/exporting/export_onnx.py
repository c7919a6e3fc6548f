"""Export of a trained network as an ONNX graph with the same results.

The graph has one input, ``images`` (batch, channels, rows, columns), and one output, ``logits``, in float32. The batch
size is free. Rows and columns are free too if the network and its attention mechanism accept other sizes and the graph
is found to follow them. A graph contains no choice that depends on a size, so every order of evaluation is fixed to the
one for the network's own size. A graph is only returned if ONNX Runtime gives the results of PyTorch.
"""

from __future__ import annotations

import copy
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from gossamer.errors import ErrorCode, GossamerError, install_hint
from gossamer.nn.attention import Attention
from gossamer.nn.models import Network

OPSET = 20
"""The first version with GELU as one operator, which then stays one operator in int8 too."""
TOLERANCE = 1e-4
"""Largest allowed difference of a logit from PyTorch, relative to the largest logit if that is above 1."""
INPUT, OUTPUT = "images", "logits"
DISCONTINUOUS_SHARE = 1e-2
"""Share of the logits that may differ by more if rounding chooses between places of maxima. With fresh weights maxima
are close together: 0.12 % of SUMNet's logits in float32 differ from those in float64."""
AXES = ("batch", "channels", "rows", "columns")
_STEP = 16
"""Smallest number of pixels by which the traced size differs from the network's own size."""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Escape sequences of terminals, such as colours."""
_NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def export_onnx(network: Network, *, opset: int = OPSET) -> bytes:
    """Return the network in evaluation as a serialized ONNX model, checked against the network itself.

    Args:
        network: Network on the CPU, in float32; it is not changed.
        opset: Version of ONNX's operators.

    Raises:
        GossamerError: ``E-UNSUPPORTED``, with the reason, if the network cannot be exported or the graph has other
            results; ``E-CODEC`` if a package is missing.
    """
    _require_packages()
    size = network.config.image_size
    requirements = network.config.input_requirements
    follows = requirements.traceable_sizes and requirements.fixed_size is None
    sides = ("rows", "columns") if follows else ()
    try:
        return _checked_graph(network, size, sides, opset)
    except GossamerError as error:
        if not sides or error.code is not ErrorCode.UNSUPPORTED:
            raise
    return _checked_graph(network, size, (), opset)


def is_dynamic(model: bytes) -> bool:
    """Return whether a graph of ``export_onnx`` accepts other numbers of rows and columns than the network's own."""
    (images,) = onnx.load_from_string(model).graph.input
    return all(side.dim_param for side in images.type.tensor_type.shape.dim[2:])


def _checked_graph(network: Network, size: tuple[int, int], free: tuple[str, ...], opset: int) -> bytes:
    """Return the graph with free batch size and ``free`` sides, if it has the results of the network."""
    multiple = network.config.input_requirements.multiple
    step = multiple * math.ceil(_STEP / multiple)
    # Traced at another size, a table of positions is resampled in the graph, which is the identity at its own size.
    traced = (size[0] + 2 * step, size[1] + step) if free else size
    network = _pin_evaluation(network, size)
    model = _clean_graph(_trace_network(network, _random_images(network, 2, traced), free, opset))
    data = _serialize_graph(model)
    other = [(2, (size[0] + multiple, size[1] + 3 * multiple))] if free else []
    _require_equal(network, data, [(3, size), (1, size), *other])
    return data


def _pin_evaluation(network: Network, size: tuple[int, int]) -> Network:
    """Return a copy in evaluation whose attention always uses the order of evaluation for images of ``size``."""
    network = copy.deepcopy(network).eval()

    def pin(attention: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        assert isinstance(attention, Attention)
        attention.pin(named["grid"] if "grid" in named else inputs[1])

    hooks = [
        module.register_forward_pre_hook(pin, with_kwargs=True)
        for module in network.modules()
        if isinstance(module, Attention)
    ]
    with torch.no_grad():
        network(torch.zeros(1, network.config.in_channels, *size))
    for hook in hooks:
        hook.remove()
    return network


def _trace_network(network: Network, images: Tensor, free: tuple[str, ...], opset: int) -> onnx.ModelProto:
    shapes = {axis: Dim.DYNAMIC for axis, name in enumerate(AXES) if name in ("batch", *free)}
    try:
        with torch.no_grad(), silence_exporter():
            program = torch.export.export(
                network, (images,), dynamic_shapes=(shapes,), prefer_deferred_runtime_asserts_over_guards=True
            )
            graph = torch.onnx.export(
                program, dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT], verbose=False
            )
    except MemoryError:
        raise
    except Exception as error:  # any error of tracing or translating an operator
        raise _unsupported_error(network, f"cannot be traced ({describe_cause(error)})") from error
    assert graph is not None
    return graph.model_proto


@contextmanager
def silence_exporter() -> Iterator[None]:
    """Suppress warnings and log lines of the exporter, which concern its internals."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _clean_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with plain names of its free axes, and without traces of how and where it was made."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    # Shapes of intermediate values are inferred again when they are needed: those of the exporter contradict others
    # after a tool has changed the graph.
    graph.ClearField("value_info")
    names: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        for axis, side in enumerate(value.type.tensor_type.shape.dim):
            if side.dim_param:
                named = names.setdefault(side.dim_param, AXES[axis])
                side.dim_param = named
    model.producer_name, model.producer_version = "gossamer", ""
    return model


def _serialize_graph(model: onnx.ModelProto) -> bytes:
    try:
        data = model.SerializeToString()
        onnx.checker.check_model(data, full_check=True)
    except Exception as error:
        raise GossamerError(
            ErrorCode.UNSUPPORTED,
            "export",
            f"the graph is not a valid ONNX model ({describe_cause(error)})",
            "report it",
        ) from error
    return data


def _require_equal(network: Network, data: bytes, cases: list[tuple[int, tuple[int, int]]]) -> None:
    """Raise unless ONNX Runtime gives the logits of the network for random images of each batch size and image size."""
    run = start_onnx_runtime(data, network)
    for batch, size in cases:
        images = _random_images(network, batch, size)
        with torch.no_grad():
            expected = network(images).numpy()
        try:
            found = run(images.numpy())
        except Exception as error:
            problem = f"its graph cannot be run with {batch} images of {size[0]}x{size[1]} ({describe_cause(error)})"
            raise _unsupported_error(network, problem) from error
        difference = np.abs(found - expected) if found.shape == expected.shape else np.full(1, math.inf)
        worst, allowed = float(difference.max()), TOLERANCE * max(1.0, float(np.abs(expected).max()))
        moved = 0.0 if network.config.input_requirements.continuous else DISCONTINUOUS_SHARE
        if not math.isfinite(worst) or (difference > allowed).mean() > moved:
            problem = f"logits of its graph differ by {worst:.2g} for {batch} images of {size[0]}x{size[1]}"
            raise _unsupported_error(network, problem)


def start_onnx_runtime(data: bytes, network: Network) -> Any:
    """Return the graph as a function of images, computed by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _unsupported_error(network, f"ONNX Runtime refuses its graph ({describe_cause(error)})") from error
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _random_images(network: Network, batch: int, size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, network.config.in_channels, *size, generator=generator)


def _unsupported_error(network: Network, problem: str) -> GossamerError:
    attention = network.config.attention
    where = network.config.name + (f" with {attention.name}" if attention is not None else "")
    remedy = "choose another network or attention mechanism, or report it"
    return GossamerError(ErrorCode.UNSUPPORTED, where, problem, remedy)


def describe_cause(error: BaseException) -> str:
    """Return the first line of the cause of an error; exporters wrap it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = _ESCAPES.sub("", str(error))
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)[:200]


def _require_packages() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        problem = f"{', '.join(missing)} must be installed and is not part of the base installation"
        raise GossamerError(ErrorCode.CODEC, "export", problem, install_hint("train"))
