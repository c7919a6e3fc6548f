"""One function, several orders of evaluation: they agree, and the cheapest is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import SequenceNormConfig, SimAConfig
from gossamer.nn.attention.sequence_norm import SequenceNormAttention
from gossamer.nn.moments import TokenMoments, token_moments

DIM = 12
ORDERS = ("quadratic", "folded", "gram")


def twins(heads: int = 3, count: int = 29, **options: object) -> dict[str, SequenceNormAttention]:
    """The same weights in every order."""
    orders = ORDERS if options.get("center", True) else ORDERS[:2]
    made = {}
    for order in orders:
        config = SequenceNormConfig(evaluation=order, **options)  # type: ignore[arg-type]
        attention = config.build(DIM, heads, grid=(1, count)).double().eval()
        assert isinstance(attention, SequenceNormAttention)
        torch.manual_seed(7)
        with torch.no_grad():
            for parameter in attention.parameters():
                parameter.normal_()
        made[order] = attention
    return made


def tokens(count: int = 29, batch: int = 2) -> Tensor:
    return torch.randn(batch, count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("heads", [1, 3, DIM])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_orders_agree(heads: int, center: bool, masked: bool) -> None:
    mask = torch.rand(2, 29, generator=torch.Generator().manual_seed(4)) < 0.6 if masked else None
    x = tokens() if mask is None else tokens().masked_fill(~mask[..., None], float("nan"))
    found = {order: attention(x, (1, 29), mask) for order, attention in twins(heads, center=center).items()}
    for value in found.values():
        torch.testing.assert_close(value, found["quadratic"], rtol=1e-11, atol=1e-11)


def test_gradients_of_the_orders_agree() -> None:
    gradients = {}
    for order, attention in twins().items():
        x = tokens().requires_grad_()
        attention(x, (1, 29)).square().sum().backward()
        gradients[order] = [x.grad, *(parameter.grad for parameter in attention.parameters())]
    for order in ORDERS[1:]:
        for one, other in zip(gradients[order], gradients["quadratic"], strict=True):
            assert one is not None
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_biases_get_a_gradient_of_zero_in_every_order() -> None:
    for attention in twins().values():
        attention(tokens(), (1, 29)).square().sum().backward()
        assert attention.qkv.bias.grad is not None
        assert attention.qkv.bias.grad.abs().max() < 1e-9


@pytest.mark.parametrize(("dim", "heads", "crossing"), [(192, 3, 336), (384, 6, 713)])
def test_the_cheapest_order_is_taken(dim: int, heads: int, crossing: int) -> None:
    with torch.device("meta"):
        attention = SequenceNormConfig().build(dim, heads, grid=(14, 14))
    assert isinstance(attention, SequenceNormAttention)
    assert attention.order_for((1, 40)) == "quadratic"
    assert attention.order_for((1, 66)) == "folded"
    assert attention.order_for((1, crossing - 3)) == "folded"
    assert attention.order_for((1, crossing + 3)) == "gram"
    attention.pin((14, 14))
    assert attention.cost((64, 64)).macs > SequenceNormConfig().build(dim, heads, grid=(14, 14)).cost((64, 64)).macs


def test_gram_needs_centering() -> None:
    with pytest.raises(GossamerError) as caught:
        SequenceNormConfig(evaluation="gram", center=False)
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_a_stream_of_moments_gives_the_layer() -> None:
    """What whole slides need: one pass for the moments, one for the output, no more than a chunk at a time."""
    attention = twins()["gram"]
    x = tokens()
    state = TokenMoments.empty(2, DIM)
    for chunk in x.split(5, dim=1):
        state = state.update(chunk)
    mean, matrix, offset = attention.affine_form(state)
    rows = [(chunk - mean[:, None]) @ matrix + offset[:, None] for chunk in x.split(4, dim=1)]
    torch.testing.assert_close(torch.cat(rows, dim=1), attention(x, (1, 29)))


def test_only_moments_matter() -> None:
    """Tokens mixed by an orthogonal matrix that keeps their sum have the same A and c; SimA's norms differ."""
    attention, x = twins()["gram"], tokens()
    basis = torch.randn(29, 29, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    basis[:, 0] = 1.0
    basis = torch.linalg.qr(basis).Q
    turn = torch.linalg.qr(torch.randn(28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(10))).Q
    mixed = basis @ torch.block_diag(torch.ones(1, 1, dtype=torch.float64), turn) @ basis.T @ x
    for one, other in zip(
        attention.affine_form(token_moments(x)), attention.affine_form(token_moments(mixed)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    sima = SimAConfig().build(DIM, 3, grid=(1, 29)).double()
    norms = [sima.qkv(value).abs().sum(dim=1) for value in (x, mixed)]
    assert (norms[0] / norms[1] - 1).abs().max() > 0.01


def test_a_large_common_offset_costs_no_digits() -> None:
    single = SequenceNormConfig(evaluation="gram").build(64, 2, grid=(64, 64)).eval()
    double = SequenceNormConfig(evaluation="gram").build(64, 2, grid=(64, 64)).double().eval()
    double.load_state_dict(single.state_dict())
    for offset in (0.0, 1.0, 10.0, 100.0):
        x = torch.randn(1, 4096, 64, generator=torch.Generator().manual_seed(1)) + offset
        with torch.no_grad():
            wanted, found = double(x.double(), (64, 64)), single(x, (64, 64))
        assert (found - wanted).norm() / wanted.norm() < 2e-6
