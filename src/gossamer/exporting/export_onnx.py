"""A trained network as an ONNX graph that gives what the network gives.

The graph has one input, ``images`` (batch, channels, rows, columns), and one output, ``logits``, in float32. The batch
is free; rows and columns are too, wherever the network and its mechanism take other sizes and the graph is found to
follow them. A graph holds no choice that depends on a size, so every order of evaluation is pinned to the one for the
network's own size. Nothing is returned that ONNX Runtime does not evaluate as PyTorch does.
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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import Attention
from gossamer.nn.models import Network

if TYPE_CHECKING:
    import onnx

OPSET = 20
"""The first with GELU as one operator, which then stays one operator in 8 bits too."""
TOLERANCE = 1e-4
"""Largest difference of a logit from that of PyTorch, relative to the largest logit where that is above 1."""
INPUT, OUTPUT = "images", "logits"
MOVED = 1e-2
"""Share of the logits that may differ by more where rounding chooses between places of maxima. With fresh weights
maxima lie close together: 0.12 % of SUMNet's logits differ in float32 from those in float64."""
AXES = ("batch", "channels", "rows", "columns")
_STEP = 16
"""Pixels, at least, by which the size that a graph is traced with differs from the network's own."""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Of terminals: colours."""
_NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def export_onnx(network: Network, *, opset: int = OPSET) -> bytes:
    """Return the network in evaluation as a serialized ONNX model, checked against the network itself.

    Args:
        network: on the CPU, in float32; it is not changed.
        opset: version of ONNX's operators.

    Raises:
        GossamerError: ``E-UNSUPPORTED``, with the reason, where the network has no such graph, or the graph gives
            something else; ``E-CODEC`` where a package is missing.
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
    """Return whether a graph of ``export_onnx`` takes other numbers of rows and columns than the network's own."""
    import onnx

    (images,) = onnx.load_from_string(model).graph.input
    return all(side.dim_param for side in images.type.tensor_type.shape.dim[2:])


def _checked_graph(network: Network, size: tuple[int, int], free: tuple[str, ...], opset: int) -> bytes:
    """Return the graph with the batch and the ``free`` sides left open, if it gives what the network gives."""
    multiple = network.config.input_requirements.multiple
    step = multiple * math.ceil(_STEP / multiple)
    # Traced at another size, a table of positions is resampled in the graph, which is the identity at its own size.
    traced = (size[0] + 2 * step, size[1] + step) if free else size
    network = _pinned(network, size)
    model = _cleaned(_traced(network, _random(network, 2, traced), free, opset))
    data = _serialized(model)
    smallest = network.config.input_requirements.multiple
    other = [(2, (size[0] + smallest, size[1] + 3 * smallest))] if free else []
    _require_equal(network, data, [(3, size), (1, size), *other])
    return data


def _pinned(network: Network, size: tuple[int, int]) -> Network:
    """Return a copy in evaluation whose attention keeps the order of evaluation that images of ``size`` get."""
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


def _traced(network: Network, images: Tensor, free: tuple[str, ...], opset: int) -> onnx.ModelProto:
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
    except Exception as error:  # whatever an operator's tracing or translation may raise
        raise _unsupported(network, f"cannot be traced ({describe_cause(error)})") from error
    assert graph is not None
    return graph.model_proto


@contextmanager
def silence_exporter() -> Iterator[None]:
    """Keep the exporter's warnings and log lines, which are about its own inside, from the user."""
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


def _cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with plain names of its free axes, and without traces of where and how it was made."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    # Shapes of what lies between are inferred anew by whoever needs them: those of the exporter contradict what other
    # tools infer once a tool has changed the graph.
    graph.ClearField("value_info")
    names: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        for axis, side in enumerate(value.type.tensor_type.shape.dim):
            if side.dim_param:
                named = names.setdefault(side.dim_param, AXES[axis])
                side.dim_param = named
    model.producer_name, model.producer_version = "gossamer", ""
    return model


def _serialized(model: onnx.ModelProto) -> bytes:
    import onnx

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
    """Raise unless ONNX Runtime gives the logits of the network for random images of each batch and size."""
    run = start_onnx_runtime(data, network)
    for batch, size in cases:
        images = _random(network, batch, size)
        with torch.no_grad():
            wanted = network(images).numpy()
        try:
            found = run(images.numpy())
        except Exception as error:
            what = f"{batch} images of {size[0]}x{size[1]}"
            raise _unsupported(network, f"its graph cannot be run with {what} ({describe_cause(error)})") from error
        difference = np.abs(found - wanted) if found.shape == wanted.shape else np.full(1, math.inf)
        worst, allowed = float(difference.max()), TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        moved = 0.0 if network.config.input_requirements.continuous else MOVED
        if not math.isfinite(worst) or (difference > allowed).mean() > moved:
            what = f"logits of its graph differ by {worst:.2g} for {batch} images of {size[0]}x{size[1]}"
            raise _unsupported(network, what)


def start_onnx_runtime(data: bytes, network: Network) -> Any:
    """Return the graph as a function of images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _unsupported(network, f"its graph is refused by ONNX Runtime ({describe_cause(error)})") from error
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _random(network: Network, batch: int, size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, network.config.in_channels, *size, generator=generator)


def _unsupported(network: Network, problem: str) -> GossamerError:
    attention = network.config.attention
    where = network.config.name + (f" with {attention.name}" if attention is not None else "")
    return GossamerError(ErrorCode.UNSUPPORTED, where, problem, "choose another network or mechanism, or report it")


def describe_cause(error: BaseException) -> str:
    """Return the first line of what an error was raised from, which is what failed; exporters wrap it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = _ESCAPES.sub("", str(error))
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)[:200]


def _require_packages() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        problem = f"needs {', '.join(missing)}, which the base installation leaves out"
        raise GossamerError(ErrorCode.CODEC, "export", problem, 'pip install "gossamer[train]"')
