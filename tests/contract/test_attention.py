"""One body for every attention mechanism: what the contract promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import config
from gossamer.errors import GossamerError
from gossamer.measure.macs import count_macs
from gossamer.nn.attention import MECHANISMS, Attention, attention_config

GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 9))
HEADS = st.sampled_from([(6, 1), (6, 3), (10, 5), (12, 4)])

every_mechanism = pytest.mark.parametrize("name", sorted(MECHANISMS))


def build(name: str, dim: int, heads: int, prefix: int = 0, dropout: float = 0.0) -> Attention:
    """A mechanism whose parameters are all random, in float64, so that no initial value hides a term."""
    torch.manual_seed(dim + heads)
    attention = MECHANISMS[name]().build(dim, heads, num_prefix_tokens=prefix, dropout=dropout).double().eval()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.5)
    return attention


def tokens_for(attention: Attention, grid: tuple[int, int], batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, attention.num_tokens(grid), attention.dim, generator=generator, dtype=torch.float64)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@every_mechanism
@settings(max_examples=40, deadline=None)
@given(grid=GRIDS, heads=HEADS, prefix=st.integers(0, 2))
def test_fast_equals_dense(name: str, grid: tuple[int, int], heads: tuple[int, int], prefix: int) -> None:
    attention = build(name, *heads, prefix)
    tokens = tokens_for(attention, grid)
    matrix, values = attention.dense_form(tokens, grid)
    count = attention.num_tokens(grid)
    assert matrix.shape == (2, heads[1], count, count)
    assert relative(attention(tokens, grid), attention.apply_dense(matrix, values)) < 1e-8


@every_mechanism
def test_fast_equals_dense_in_float32(name: str) -> None:
    attention = build(name, 12, 4, 1).float()
    tokens = tokens_for(attention, (5, 7)).float()
    assert relative(attention(tokens, (5, 7)), attention.apply_dense(*attention.dense_form(tokens, (5, 7)))) < 1e-5


@every_mechanism
@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan"), float("inf")])
def test_masked_equals_truncated(name: str, junk: float) -> None:
    attention = build(name, 12, 3)
    tokens = tokens_for(attention, (1, 11))
    mask = torch.zeros(2, 11, dtype=torch.bool)
    mask[0, :7], mask[1, :10] = True, True
    padded = tokens.masked_fill(~mask[..., None], junk)
    found = attention(padded, (1, 11), mask)
    assert torch.isfinite(found).all()
    for sample, kept in ((0, 7), (1, 10)):
        wanted = attention(tokens[sample : sample + 1, :kept], (1, kept))
        assert relative(found[sample : sample + 1, :kept], wanted) < 1e-10
    dense = attention.apply_dense(*attention.dense_form(padded, (1, 11), mask))
    assert relative(found, dense) < 1e-8


@every_mechanism
def test_gradients(name: str) -> None:
    attention = build(name, 6, 2, 1)
    tokens = tokens_for(attention, (2, 3)).requires_grad_()
    parameters = [parameter.detach().requires_grad_() for parameter in attention.parameters()]
    names = [key for key, _ in attention.named_parameters()]

    def call(tokens: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(attention, dict(zip(names, values, strict=True)), (tokens, (2, 3)))

    assert torch.autograd.gradcheck(call, (tokens, *parameters), atol=1e-6)


@every_mechanism
def test_evaluation_is_deterministic_under_dropout(name: str) -> None:
    attention = build(name, 6, 2, dropout=0.5)
    tokens = tokens_for(attention, (3, 4))
    assert torch.equal(attention(tokens, (3, 4)), attention(tokens, (3, 4)))
    attention.train()
    assert not torch.equal(attention(tokens, (3, 4)), attention(tokens, (3, 4)))


@every_mechanism
@pytest.mark.parametrize(("grid", "prefix"), [((3, 5), 0), ((7, 11), 1), ((1, 2), 2)])
def test_closed_form_equals_counted_macs(name: str, grid: tuple[int, int], prefix: int) -> None:
    attention = build(name, 12, 4, prefix).float()

    class Call(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, tokens: Tensor) -> Tensor:
            return self.attention(tokens, grid)

    assert count_macs(Call(), tokens_for(attention, grid, batch=1).float()).total == attention.cost(grid).macs


@every_mechanism
def test_a_result_does_not_depend_on_the_batch(name: str) -> None:
    attention = build(name, 12, 4)
    tokens = tokens_for(attention, (4, 5), batch=3)
    assert relative(attention(tokens, (4, 5))[1:2], attention(tokens[1:2], (4, 5))) < 1e-12


@every_mechanism
def test_config_survives_json_and_names_what_it_does_not_know(name: str) -> None:
    described = MECHANISMS[name]()
    assert attention_config(config.to_json(described)) == described
    assert attention_config(name) == described
    with pytest.raises(dataclasses.FrozenInstanceError):
        described.eps = 1.0  # type: ignore[attr-defined]
    with pytest.raises(GossamerError, match="epsilom"):
        attention_config({"name": name, "epsilom": 1})


@every_mechanism
def test_a_grid_that_does_not_fit_is_refused(name: str) -> None:
    attention = build(name, 6, 2)
    with pytest.raises(ValueError, match="12 tokens"):
        attention(torch.zeros(2, 12, 6, dtype=torch.float64), (3, 5))
    with pytest.raises(GossamerError, match="4 heads do not divide"):
        MECHANISMS[name]().build(6, 4)


@every_mechanism
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite(name: str, dtype: torch.dtype) -> None:
    attention = MECHANISMS[name]().build(16, 2)
    tokens = torch.randn(1, 1024, 16, requires_grad=True)
    with torch.autocast("cpu", dtype):
        out = attention(tokens, (32, 32))
    out.float().square().sum().backward()
    assert torch.isfinite(out).all()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()
