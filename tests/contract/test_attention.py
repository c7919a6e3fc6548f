"""One body for every attention mechanism: what the contract promises."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import MECHANISMS, Attention, attention_config
from gossamer.profiling.macs import count_macs

GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 9))
HEADS = st.sampled_from([(6, 1), (12, 3), (20, 5), (16, 4)])

every_mechanism = pytest.mark.parametrize("name", sorted(MECHANISMS))


def build(name: str, dim: int, heads: int, grid: tuple[int, int], prefix: int = 0, dropout: float = 0.0) -> Attention:
    """A mechanism whose parameters are all random, in float64, so that no initial value hides a term."""
    torch.manual_seed(dim + heads)
    described = MECHANISMS[name]()
    try:
        attention = described.build(dim, heads, grid=grid, num_prefix_tokens=prefix, dropout=dropout)
    except GossamerError as refused:
        if refused.code is not ErrorCode.UNSUPPORTED or not prefix:
            raise
        attention = described.build(dim, heads, grid=grid, dropout=dropout)
    attention = attention.double().eval()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.5)
    return attention


def tokens_for(attention: Attention, grid: tuple[int, int], batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, attention.num_tokens(grid), attention.dim, generator=generator, dtype=torch.float64)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).detach().norm() / wanted.detach().norm())


def refuses_masks(attention: Attention) -> bool:
    try:
        attention(tokens_for(attention, (1, 3)), (1, 3), torch.ones(2, attention.num_tokens((1, 3)), dtype=torch.bool))
    except GossamerError as error:
        return error.code is ErrorCode.UNSUPPORTED
    return False


@every_mechanism
@settings(max_examples=40, deadline=None)
@given(grid=GRIDS, heads=HEADS, prefix=st.integers(0, 2))
def test_fast_equals_dense(name: str, grid: tuple[int, int], heads: tuple[int, int], prefix: int) -> None:
    attention = build(name, *heads, grid, prefix)
    tokens = tokens_for(attention, grid)
    matrix, values = attention.dense_form(tokens, grid)
    count = attention.num_tokens(grid)
    assert matrix.shape == (2, heads[1], count, count)
    assert relative(attention(tokens, grid), attention.apply_dense(matrix, values)) < 1e-8


@every_mechanism
def test_fast_equals_dense_on_another_grid_than_it_was_built_for(name: str) -> None:
    attention = build(name, 12, 3, (5, 4), 1)
    for grid in ((3, 7), (11, 13)):
        tokens = tokens_for(attention, grid)
        assert relative(attention(tokens, grid), attention.apply_dense(*attention.dense_form(tokens, grid))) < 1e-8


@every_mechanism
def test_fast_equals_dense_in_float32(name: str) -> None:
    attention = build(name, 16, 4, (5, 7), 1).float()
    tokens = tokens_for(attention, (5, 7)).float()
    assert relative(attention(tokens, (5, 7)), attention.apply_dense(*attention.dense_form(tokens, (5, 7)))) < 1e-4


@every_mechanism
@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan"), float("inf")])
def test_masked_equals_truncated_or_is_refused(name: str, junk: float) -> None:
    attention = build(name, 12, 3, (1, 11))
    if refuses_masks(attention):
        return
    tokens = tokens_for(attention, (1, 11))
    mask = torch.zeros(2, 11, dtype=torch.bool)
    mask[0, :7], mask[1, :10] = True, True
    padded = tokens.masked_fill(~mask[..., None], junk)
    found = attention(padded, (1, 11), mask)
    with torch.no_grad():
        assert relative(attention(padded, (1, 11), mask), found) < 1e-10
    assert torch.isfinite(found).all()
    for sample, kept in ((0, 7), (1, 10)):
        wanted = attention(tokens[sample : sample + 1, :kept], (1, kept))
        assert relative(found[sample : sample + 1, :kept], wanted) < 1e-10
        assert torch.equal(found[sample, kept:], attention.output.bias.expand(11 - kept, -1))
    dense = attention.apply_dense(*attention.dense_form(padded, (1, 11), mask))
    assert relative(found, dense) < 1e-8


def test_what_refuses_masks_says_so() -> None:
    refusing = {name for name in MECHANISMS if refuses_masks(build(name, 12, 3, (1, 3)))}
    assert refusing == {"adaptive", "local", "soft", "soft_norm"}


def call_with(attention: Attention, grid: tuple[int, int], *, dense: bool = False):
    names = [key for key, _ in attention.named_parameters()]

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, tokens: Tensor) -> Tensor:
            return attention.apply_dense(*attention.dense_form(tokens, grid))

    def call(tokens: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        if dense:
            return torch.func.functional_call(Dense(), {f"attention.{k}": v for k, v in given.items()}, (tokens,))
        return torch.func.functional_call(attention, given, (tokens, grid))

    return call


# The threshold of dependency pruning is a step: its straight-through gradient is not that of the function.
@pytest.mark.parametrize("name", sorted(set(MECHANISMS) - {"adaptive"}))
def test_gradients(name: str) -> None:
    attention = build(name, 4, 2, (2, 3), 1)
    tokens = tokens_for(attention, (2, 3)).requires_grad_()
    parameters = [parameter.detach().requires_grad_() for parameter in attention.parameters()]
    assert torch.autograd.gradcheck(call_with(attention, (2, 3)), (tokens, *parameters), atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(MECHANISMS) - {"adaptive"}))
def test_gradients_equal_those_of_the_definition(name: str) -> None:
    grid = (5, 7)
    attention = build(name, 12, 3, grid, 1)
    tokens = tokens_for(attention, grid).requires_grad_()
    inputs = (tokens, *(parameter.detach().requires_grad_() for parameter in attention.parameters()))
    weights = torch.randn(tokens.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found, wanted = (
        torch.autograd.grad((call_with(attention, grid, dense=dense)(*inputs) * weights).sum(), inputs)
        for dense in (False, True)
    )
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 1e-9 * (1 + other.norm())


@every_mechanism
def test_evaluation_is_deterministic_under_dropout(name: str) -> None:
    attention = build(name, 12, 2, (3, 4), dropout=0.5)
    tokens = tokens_for(attention, (3, 4))
    assert torch.equal(attention(tokens, (3, 4)), attention(tokens, (3, 4)))
    attention.train()
    assert not torch.equal(attention(tokens, (3, 4)), attention(tokens, (3, 4)))


@every_mechanism
@pytest.mark.parametrize(("grid", "prefix"), [((3, 5), 0), ((7, 11), 1), ((1, 2), 2), ((40, 41), 1)])
def test_closed_form_equals_counted_macs(name: str, grid: tuple[int, int], prefix: int) -> None:
    attention = build(name, 16, 4, grid, prefix).float()

    class Call(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, tokens: Tensor) -> Tensor:
            return self.attention(tokens, grid)

    assert count_macs(Call(), tokens_for(attention, grid, batch=1).float()).total == attention.cost(grid).macs


@every_mechanism
def test_a_result_does_not_depend_on_the_batch(name: str) -> None:
    attention = build(name, 16, 4, (4, 5))
    tokens = tokens_for(attention, (4, 5), batch=3)
    assert relative(attention(tokens, (4, 5))[1:2], attention(tokens[1:2], (4, 5))) < 1e-12


@every_mechanism
def test_weights_are_saved_and_loaded(name: str) -> None:
    attention = build(name, 16, 4, (4, 5), 1)
    again = MECHANISMS[name]().build(16, 4, grid=(4, 5), num_prefix_tokens=attention.num_prefix_tokens).double().eval()
    tokens = tokens_for(attention, (4, 5))
    with torch.no_grad():
        before = again(tokens, (4, 5))
        again.load_state_dict(attention.state_dict())
        assert torch.equal(again(tokens, (4, 5)), attention(tokens, (4, 5)))
        assert not torch.equal(again(tokens, (4, 5)), before)


@every_mechanism
def test_config_survives_json_and_names_what_it_does_not_know(name: str) -> None:
    described = MECHANISMS[name]()
    assert attention_config(config.to_json(described)) == described
    assert attention_config(name) == described
    assert attention_config(json.dumps(config.to_json(described))) == described
    with pytest.raises(dataclasses.FrozenInstanceError):
        described.eps = 1.0  # type: ignore[attr-defined]
    with pytest.raises(GossamerError, match="epsilom"):
        attention_config({"name": name, "epsilom": 1})


@every_mechanism
def test_a_grid_that_does_not_fit_is_refused(name: str) -> None:
    attention = build(name, 12, 2, (3, 5))
    with pytest.raises(ValueError, match="12 tokens"):
        attention(torch.zeros(2, 12, 12, dtype=torch.float64), (3, 5))
    with pytest.raises(GossamerError, match="4 heads do not divide"):
        MECHANISMS[name]().build(6, 4, grid=(3, 5))


@every_mechanism
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite(name: str, dtype: torch.dtype) -> None:
    attention = MECHANISMS[name]().build(16, 2, grid=(32, 32))
    tokens = torch.randn(1, 1024, 16, requires_grad=True)
    with torch.autocast("cpu", dtype):
        out = attention(tokens, (32, 32))
    out.float().square().mean().backward()
    assert torch.isfinite(out).all()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()


# Positions of adaptive attention are a table over the grid, which a graph holds as a constant.
OTHER_GRID = {"adaptive": (4, 6)}


@every_mechanism
def test_onnx_runtime_equals_eager_on_another_batch_and_grid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the grid are free in the graph, columns are what the traced image had."""
    import onnxruntime

    # The run-time checks of shapes are Python that an exporter cannot trace.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    grid, other = (4, 6), OTHER_GRID.get(name, (9, 6))
    attention = build(name, 16, 4, grid).float()
    attention.pin(grid)

    class Plane(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, plane: Tensor) -> Tensor:
            shape = (plane.shape[1], plane.shape[2])
            return self.attention(plane.flatten(1, 2), shape).unflatten(1, shape)

    def plane(batch: int, shape: tuple[int, int]) -> Tensor:
        return tokens_for(attention, shape, batch).float().unflatten(1, shape)

    free: dict[int, object] = {0: torch.export.Dim.DYNAMIC}
    if other != grid:
        free[1] = torch.export.Dim.DYNAMIC
    path = tmp_path / "attention.onnx"
    with torch.no_grad():
        program = torch.onnx.export(
            Plane(), (plane(2, grid),), dynamo=True, dynamic_shapes={"plane": free}, verbose=False, optimize=True
        )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, shape in ((3, grid), (2, other)):
        given = plane(batch, shape)
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, Plane()(given).numpy(), rtol=2e-3, atol=2e-4)
