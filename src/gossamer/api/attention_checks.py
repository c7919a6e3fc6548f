"""What every attention mechanism promises, checked in the same way for those of Gossamer and of users.

A check builds the mechanism with random parameters, so that no initial value hides a term, and returns what it measured
in words. It raises ``CheckError`` with the numbers where a promise is broken, and ``RefusalError`` with the reason
where the mechanism refuses, as it may. The global random state is not changed.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer import config
from gossamer.api.attention_samples import (
    BATCH,
    AttentionOnGrid,
    AttentionOnPlane,
    CheckError,
    CheckSize,
    RefusalError,
    build_mechanism,
    build_randomly,
    draw_leaves,
    draw_tokens,
    fixed_seed,
    make_functional,
    translate_refusal,
)
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.export_onnx import describe_cause, silence_exporter
from gossamer.nn.attention import Attention, AttentionConfig, attention_config
from gossamer.nn.attention.base import Grid
from gossamer.profiling.macs import count_macs

EXACT = 1e-8
"""Relative difference allowed in float64 between the fast form and the dense form."""
FLOAT32 = 1e-4
"""The same in float32."""
UNPADDED = 1e-10
"""Relative difference allowed between real tokens of a padded sequence and those of the sequence without padding."""
GRADIENT = 1e-9
"""Difference allowed between gradients of the fast form and of the dense form."""
ONNX_RELATIVE, ONNX_ABSOLUTE = 2e-3, 2e-4


def check_dense_form(mechanism: AttentionConfig, size: CheckSize, grid: Grid | None = None) -> str:
    """Compare the fast form with the dense form in float64.

    Args:
        mechanism: Config of the mechanism.
        size: Size that it is built for.
        grid: Grid of the tokens (default: that of ``size``).
    """
    grid = grid or size.grid
    attention = build_randomly(mechanism, size)
    tokens = draw_tokens(attention, grid)
    matrix, values = attention.dense_form(tokens, grid)
    expected = (BATCH, size.num_heads, attention.num_tokens(grid), attention.num_tokens(grid))
    _require(tuple(matrix.shape) == expected, f"the matrix of the dense form is {tuple(matrix.shape)}, not {expected}")
    return _require_close(attention(tokens, grid), attention.apply_dense(matrix, values), EXACT, f"grid {grid}")


def check_float32(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Compare the fast form with the dense form in float32."""
    attention = build_randomly(mechanism, size).float()
    tokens = draw_tokens(attention, size.grid).float()
    dense = attention.apply_dense(*attention.dense_form(tokens, size.grid))
    return _require_close(attention(tokens, size.grid), dense, FLOAT32, f"grid {size.grid}")


def check_prefix_tokens(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Build the mechanism with prefix tokens, such as a class token."""
    with fixed_seed(0):
        try:
            mechanism.build(size.dim, size.num_heads, grid=size.grid, num_prefix_tokens=size.num_prefix_tokens)
        except GossamerError as error:
            raise translate_refusal(error) from error
    return f"{size.num_prefix_tokens} prefix tokens are taken"


def check_token_mask(mechanism: AttentionConfig, size: CheckSize, padding: float = float("nan")) -> str:
    """Compare real tokens of padded sequences with those of the sequences without padding.

    Args:
        mechanism: Config of the mechanism.
        size: Size of a layer; its grid is replaced by one row of 11 tokens.
        padding: Value of padded tokens, which must not matter.
    """
    grid, lengths = (1, 11), (7, 10)
    attention = build_randomly(mechanism, dataclasses.replace(size, grid=grid, num_prefix_tokens=0))
    tokens = draw_tokens(attention, grid)
    mask = torch.arange(grid[1])[None] < torch.tensor(lengths)[:, None]
    padded = tokens.masked_fill(~mask[..., None], padding)
    try:
        found = attention(padded, grid, mask)
    except GossamerError as error:
        raise translate_refusal(error) from error
    with torch.no_grad():
        _require_close(attention(padded, grid, mask), found, UNPADDED, "without gradients")
    _require(bool(torch.isfinite(found).all()), f"padding of {padding} makes the result not finite")
    worst = 0.0
    for sample, length in enumerate(lengths):
        expected = attention(tokens[sample : sample + 1, :length], (1, length))
        difference = _relative_difference(found[sample : sample + 1, :length], expected)
        problem = f"real tokens differ by {difference:.2g} from those of the sequence without padding"
        _require(difference < UNPADDED, problem)
        worst = max(worst, difference)
        bias = attention.output.bias.expand(grid[1] - length, -1)
        _require(torch.equal(found[sample, length:], bias), "padded tokens do not get zeros before the output's bias")
    dense = attention.apply_dense(*attention.dense_form(padded, grid, mask))
    _require_close(found, dense, EXACT, "masked dense form")
    return f"difference {worst:.2g}, at most {UNPADDED:g}"


def check_gradients(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Compare gradients for tokens and parameters with finite differences."""
    attention = _differentiable(mechanism, size)
    inputs = draw_leaves(attention, size.grid)
    try:
        torch.autograd.gradcheck(make_functional(attention, size.grid), inputs, atol=1e-6)
    except RuntimeError as error:
        raise CheckError(describe_cause(error)) from error
    return f"{len(inputs)} tensors equal finite differences"


def check_gradients_of_definition(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Compare gradients of the fast form with those of the dense form."""
    attention = _differentiable(mechanism, size)
    inputs = draw_leaves(attention, size.grid)
    weights = torch.randn(inputs[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    fast, dense = (
        torch.autograd.grad((make_functional(attention, size.grid, dense=dense)(*inputs) * weights).sum(), inputs)
        for dense in (False, True)
    )
    worst = 0.0
    for one, other in zip(fast, dense, strict=True):
        difference = float((one - other).norm() / (1 + other.norm()))
        problem = f"gradients differ by {difference:.2g} from those of the dense form, at most {GRADIENT:g}"
        _require(difference <= GRADIENT, problem)
        worst = max(worst, difference)
    return f"difference {worst:.2g}, at most {GRADIENT:g}"


def check_cost(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Compare counted multiply-accumulates of one image with the closed form ``cost``."""
    attention = build_randomly(mechanism, size).float()
    counted = count_macs(AttentionOnGrid(attention, size.grid), draw_tokens(attention, size.grid, batch=1).float())
    closed = attention.cost(size.grid).macs
    parts = ", ".join(f"{name} {macs:,}" for name, macs in counted.by_operator.items())
    problem = f"cost gives {closed:,} multiply-accumulates for the grid {size.grid}, {counted.total:,} run ({parts})"
    _require(counted.total == closed, problem)
    return f"{closed:,} for the grid {size.grid}"


def check_dropout(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Check that dropout acts in training and never in evaluation."""
    attention = build_randomly(mechanism, dataclasses.replace(size, dropout=0.5))
    tokens = draw_tokens(attention, size.grid)
    with fixed_seed(0):
        same = torch.equal(attention(tokens, size.grid), attention(tokens, size.grid))
        attention.train()
        changes = not torch.equal(attention(tokens, size.grid), attention(tokens, size.grid))
    _require(same, "two calls in evaluation differ")
    _require(changes, "two calls in training with a dropout of 0.5 are equal")
    return "acts in training only"


def check_batch_independence(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Compare the result of a sample in a batch with that of the sample alone."""
    attention = build_randomly(mechanism, size)
    tokens = draw_tokens(attention, size.grid, batch=3)
    return _require_close(attention(tokens, size.grid)[1:2], attention(tokens[1:2], size.grid), 1e-12, "sample alone")


def check_state_dict(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Load the state of a mechanism into a fresh one and compare the results."""
    attention = build_randomly(mechanism, size)
    with fixed_seed(1):
        again = build_mechanism(mechanism, size).double().eval()
    tokens = draw_tokens(attention, size.grid)
    with torch.no_grad():
        before = again(tokens, size.grid)
        again.load_state_dict(attention.state_dict())
        expected = attention(tokens, size.grid)
        _require(torch.equal(again(tokens, size.grid), expected), "results differ after loading the state")
        _require(not torch.equal(before, expected), "results do not depend on the state")
    return f"{len(attention.state_dict())} tensors"


def check_config(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Write the config as JSON and read it again."""
    data = config.to_json(mechanism)
    _require(attention_config(data) == mechanism, "the config read from JSON differs")
    _require(attention_config(json.dumps(data)) == mechanism, "the config read from JSON text differs")
    return f"{len(dataclasses.fields(mechanism))} parameters"


def check_refusals(mechanism: AttentionConfig, size: CheckSize) -> str:
    """Check that tokens that do not fill the grid, and heads that do not divide the width, are refused."""
    attention = build_randomly(mechanism, dataclasses.replace(size, num_prefix_tokens=0))
    tokens = draw_tokens(attention, size.grid)[:, :-1]
    try:
        attention(tokens, size.grid)
    except ValueError:
        refused = True
    else:
        refused = False
    problem = f"{tokens.shape[1]} tokens are taken for the grid {size.grid}; call self.check_grid(tokens, grid) first"
    _require(refused, problem)
    if mechanism.own_head_dim is None:
        try:
            mechanism.build(6, 4, grid=size.grid)
        except GossamerError as error:
            _require(error.code is ErrorCode.CONFIG, f"4 heads of a width of 6 are refused with {error.code.label}")
        else:
            raise CheckError("4 heads of a width of 6 are taken")
    return "wrong grids and heads are refused"


def check_half_precision(mechanism: AttentionConfig, size: CheckSize, dtype: torch.dtype) -> str:
    """Check that results and gradients under autocast are finite, with initial parameters and many tokens."""
    with fixed_seed(0):
        attention = build_mechanism(mechanism, size)
        tokens = torch.randn(1, attention.num_tokens(size.grid), size.dim, requires_grad=True)
        with torch.autocast("cpu", dtype):
            out = attention(tokens, size.grid)
        out.float().square().mean().backward()
    name = str(dtype).removeprefix("torch.")
    _require(bool(torch.isfinite(out).all()), f"the result is not finite in {name}")
    gradient = tokens.grad
    _require(gradient is not None and bool(torch.isfinite(gradient).all()), f"the gradient is not finite in {name}")
    return f"finite in {name} with {attention.num_tokens(size.grid):,} tokens"


def check_export(mechanism: AttentionConfig, size: CheckSize, other: Grid) -> str:
    """Export to ONNX and compare ONNX Runtime with PyTorch on another batch and on another grid.

    Args:
        mechanism: Config of the mechanism.
        size: Size that the graph is traced with. Rows of the grid are free in the graph, columns are not.
        other: Grid with the same columns; not used where the mechanism has ``fixed_graph_grid``.
    """
    import onnxruntime

    free: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
    if mechanism.fixed_graph_grid is None:
        free[1] = torch.export.Dim.DYNAMIC
    else:
        other = size.grid
    attention = build_randomly(mechanism, dataclasses.replace(size, num_prefix_tokens=0)).float()
    attention.pin(size.grid)
    plane = AttentionOnPlane(attention)
    shapes = {"plane": free}
    try:
        with torch.no_grad(), silence_exporter():
            program = torch.onnx.export(
                plane, (plane.draw(2, size.grid),), dynamo=True, dynamic_shapes=shapes, verbose=False, optimize=True
            )
        assert program is not None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # whatever an operator's tracing or translation may raise
        _raise_refusal(error)
        raise CheckError(f"cannot be exported: {describe_cause(error)}") from error
    worst = 0.0
    for batch, grid in ((3, size.grid), (2, other)):
        given = plane.draw(batch, grid)
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        with torch.no_grad():
            expected = plane(given).numpy()
        difference = np.abs(found - expected)
        worst = max(worst, float(difference.max()))
        close = bool((difference <= ONNX_ABSOLUTE + ONNX_RELATIVE * np.abs(expected)).all())
        _require(close, f"ONNX Runtime differs by {worst:.2g} for {batch} images of the grid {grid}")
    rows = "rows free" if mechanism.fixed_graph_grid is None else mechanism.fixed_graph_grid
    return f"difference {worst:.2g}; {rows}"


def _differentiable(mechanism: AttentionConfig, size: CheckSize) -> Attention:
    """Return the mechanism, unless its gradients are on purpose not those of the function."""
    if mechanism.surrogate_gradient is not None:
        raise RefusalError(mechanism.surrogate_gradient)
    return build_randomly(mechanism, size)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise CheckError(problem)


def _require_close(found: Tensor, expected: Tensor, allowed: float, where: str) -> str:
    difference = _relative_difference(found, expected)
    measured = f"relative difference {difference:.2g} ({where}), at most {allowed:g}"
    _require(difference < allowed, measured)
    return measured


def _relative_difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


def _raise_refusal(error: BaseException | None) -> None:
    """Raise the refusal that an exporter's error was raised from, if there is one."""
    while error is not None:
        if isinstance(error, GossamerError) and error.code is ErrorCode.UNSUPPORTED:
            raise RefusalError(error.problem) from error
        error = error.__cause__ or error.__context__
