"""The numbered invariants of adaptive attention: positions, both prunings, the prior, and what is really skipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer
from gossamer.api.attention_checks import check_token_mask
from gossamer.api.attention_samples import CheckSize, RefusalError
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import AdaptiveConfig
from gossamer.nn.attention.adaptive import AdaptiveAttention, self_supervised_prior
from gossamer.nn.relative_position import position_table
from gossamer.profiling.macs import count_macs
from gossamer.training.module import parameter_groups

DIM, HEADS = 12, 3
GRID = (5, 6)
COUNT = 30


def build(*, random: bool = True, grid: tuple[int, int] = GRID, prefix: int = 0, **options: Any) -> AdaptiveAttention:
    torch.manual_seed(0)
    attention = AdaptiveConfig(**options).build(DIM, HEADS, grid=grid, num_prefix_tokens=prefix).double().eval()
    assert isinstance(attention, AdaptiveAttention)
    if random:
        with torch.no_grad():
            for name, parameter in attention.named_parameters():
                if name not in ("gate_level", "widths"):
                    parameter.normal_(std=0.5)
    return attention


def tokens(count: int = COUNT, batch: int = 3) -> Tensor:
    return torch.randn(batch, count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def logits(attention: AdaptiveAttention, x: Tensor) -> Tensor:
    queries, keys, _ = attention._projected(x, x)
    bias = attention._bias(GRID)
    assert bias is not None
    return queries @ keys.transpose(-2, -1) * attention.head_dim**-0.5 + bias


# Positions


def test_the_bias_depends_on_the_offset_alone() -> None:
    bias = build()._bias(GRID)
    assert bias is not None
    found = bias.unflatten(1, GRID).unflatten(3, GRID)
    torch.testing.assert_close(found[:, 1:, 1:, 1:, 1:], found[:, :-1, :-1, :-1, :-1])
    attention = build()
    table = position_table(attention.offsets, attention.widths, GRID)
    assert table.shape == (HEADS, 9, 11)
    for ask, answer in (((4, 5), (0, 0)), ((0, 0), (4, 5)), ((2, 1), (3, 4))):
        offset = (ask[0] - answer[0] + 4, ask[1] - answer[1] + 5)
        assert torch.equal(found[(slice(None), *ask, *answer)], table[(slice(None), *offset)])


def test_initially_it_is_a_symmetric_gaussian_of_a_hundredth() -> None:
    attention = build(random=False)
    bias = attention._bias(GRID)
    assert bias is not None
    torch.testing.assert_close(bias, bias.transpose(1, 2))
    torch.testing.assert_close(torch.diagonal(bias, dim1=1, dim2=2), torch.full((HEADS, COUNT), 0.01).double())
    torch.testing.assert_close(attention.widths.detach(), torch.tensor([0.1, 0.2, 0.3]).double())
    with torch.no_grad():
        attention.widths.fill_(1e6)
    wide = attention._bias(GRID)
    assert wide is not None
    torch.testing.assert_close(wide, torch.full_like(wide, 0.01))


def test_the_bias_is_kept_between_calls_and_made_anew_when_weights_change() -> None:
    attention, x = build(), tokens()
    with torch.no_grad():
        before = attention(x, GRID)
        first = attention._bias(GRID)
        assert attention._bias(GRID) is first
        attention.offsets.add_(torch.randn_like(attention.offsets))
        changed = attention(x, GRID)
    assert not torch.equal(before, changed)
    torch.testing.assert_close(changed, attention(x, GRID).detach())


def test_weights_that_are_put_in_place_of_others_are_seen() -> None:
    attention, other, x = build(), build(random=False), tokens()
    with torch.no_grad():
        attention(x, GRID)
        attention.load_state_dict(other.state_dict(), assign=True)
        torch.testing.assert_close(attention(x, GRID), other(x, GRID))
    with torch.inference_mode():
        torch.testing.assert_close(build()(x, GRID), build()(x, GRID))


# Dependency pruning


@pytest.mark.parametrize("gate", ["straight_through", "faithful"])
def test_the_test_on_logits_is_the_test_on_weights(gate: str) -> None:
    attention, x = build(gate=gate), tokens()
    queries, _, _ = attention._projected(x, x)
    found = logits(attention, x)
    weights = torch.softmax(found, dim=-1)
    low, top = weights.amin(-1, keepdim=True), weights.amax(-1, keepdim=True)
    wanted = weights > low + attention._threshold(queries) * (top - low)
    assert torch.equal(attention._gate(queries, found) > 0.5, wanted)
    assert 0.05 < wanted.double().mean() < 0.95


def test_rows_sum_to_one_and_the_faithful_ones_almost() -> None:
    improved, _ = build().dense_form(tokens(), GRID)
    torch.testing.assert_close(improved.sum(-1), torch.ones_like(improved[..., 0]))
    attention, x = build(gate="faithful"), tokens()
    faithful, _ = attention.dense_form(x, GRID)
    queries, _, _ = attention._projected(x, x)
    kept = (torch.softmax(logits(attention, x), -1) * attention._gate(queries, logits(attention, x))).sum(-1)
    torch.testing.assert_close(faithful.sum(-1), kept / (kept + 1e-6))


def test_without_a_gate_it_is_plain_attention_with_a_bias() -> None:
    attention, x = build(gate="none"), tokens()
    matrix, _ = attention.dense_form(x, GRID)
    torch.testing.assert_close(matrix, torch.softmax(logits(attention, x), dim=-1))


def test_a_threshold_of_zero_drops_the_smallest_alone_and_of_one_keeps_the_largest() -> None:
    attention, x = build(), tokens()
    for level, kept in ((-1e4, COUNT - 1), (1e4, 1)):
        with torch.no_grad():
            attention.gate_level.fill_(level)
            attention.gate.fill_(0.0)
            if level > 0:
                attention.gate.fill_(1e4)
        x_now = x if level < 0 else x.abs() + attention.query.weight.sum()
        matrix, _ = attention.dense_form(x_now, GRID)
        counts = (matrix > 0).sum(dim=-1)
        if level < 0:
            assert (counts == kept).all()
        else:
            assert (counts >= kept).all()


def test_a_flat_row_keeps_everything_it_ties_with() -> None:
    attention = build(relative_position=False)
    x = torch.ones(1, COUNT, DIM, dtype=torch.float64)
    torch.testing.assert_close(attention(x, GRID)[0, 0], attention(x, GRID)[0, 7])
    matrix, _ = attention.dense_form(x, GRID)
    torch.testing.assert_close(matrix, torch.full_like(matrix, 1 / COUNT))


def test_a_larger_threshold_keeps_a_subset() -> None:
    attention, x = build(), tokens()
    kept = []
    for level in (-2.0, 0.0, 2.0):
        with torch.no_grad():
            attention.gate_level.fill_(level)
        kept.append(attention.dense_form(x, GRID)[0] > 0)
    assert (kept[1] <= kept[0]).all()
    assert (kept[2] <= kept[1]).all()
    assert kept[2].sum() < kept[0].sum()


def test_the_published_gate_has_no_gradient_and_ours_has() -> None:
    for gate, learns in (("faithful", False), ("straight_through", True)):
        attention = build(gate=gate)
        attention(tokens(), GRID).square().sum().backward()
        assert attention.gate.grad is not None
        assert attention.gate_level.grad is not None
        assert bool(attention.gate.grad.abs().max() > 0) is learns
        assert bool(attention.gate_level.grad.abs() > 0) is learns


def test_the_gate_starts_as_published() -> None:
    attention = build(random=False)
    with torch.no_grad():
        attention.gate.zero_()
    queries, _, _ = attention._projected(tokens(), tokens())
    torch.testing.assert_close(attention._threshold(queries)[0, 0, 0, 0].item(), 0.0596, rtol=1e-3, atol=0.0)


def test_gates_are_left_out_of_weight_decay() -> None:
    network = gossamer.create_model("vit_nano", attention="adaptive", image_size=(16, 16), patch_size=4)
    decayed, others = parameter_groups(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert not any(word in names[id(p)] for p in decayed for word in ("gate", "offsets", "widths"))
    assert any("gate" in names[id(p)] for p in others)


@pytest.mark.parametrize(("budget", "start"), [(0.3, -4.0), (0.9, 4.0)])
def test_the_budget_pulls_from_both_sides(budget: float, start: float) -> None:
    attention = build(budget=budget, budget_weight=1.0, prior_weight=0.0)
    x = tokens()
    with torch.no_grad():
        attention.gate_level.fill_(start)
    optimizer = torch.optim.Adam([attention.gate, attention.gate_level], lr=0.1)

    def kept() -> float:
        queries, _, _ = attention._projected(x, x)
        return float(attention._gate(queries, logits(attention, x)).detach().mean())

    before = abs(kept() - budget)
    for _ in range(60):
        loss = attention.auxiliary_loss(x, GRID)
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(kept() - budget) < 0.5 * before


# Query and key pruning


def masks(fraction: float) -> Tensor:
    """Another number of tokens kept in each sample, about ``fraction`` of them."""
    if fraction in (0.0, 1.0):
        return torch.full((3, COUNT), bool(fraction))
    kept = torch.zeros(3, COUNT, dtype=torch.bool)
    for sample, count in enumerate((4, 15, 26)):
        kept[sample, torch.randperm(COUNT, generator=torch.Generator().manual_seed(sample))[:count]] = True
    return kept


@pytest.mark.parametrize("gate", ["none", "straight_through", "faithful"])
@pytest.mark.parametrize("queries", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("keys", [0.5, 1.0])
@pytest.mark.parametrize("prefix", [0, 1])
def test_masked_equals_gathered(
    gate: str, queries: float, keys: float, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.nn.gather.BUCKET", 8)
    attention = build(gate=gate, prefix=prefix)
    x = tokens(COUNT + prefix)
    kept = [torch.cat([torch.zeros(3, prefix, dtype=torch.bool), masks(part)], dim=1) for part in (queries, keys)]
    found = []
    for pays in (True, False):
        monkeypatch.setattr(attention, "pays", lambda *arguments, pays=pays: pays)
        for training in (True, False):
            attention.train(training)
            found.append(attention(x, GRID, kept_queries=kept[0], kept_keys=kept[1]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-10)
    dropped = ~kept[0]
    dropped[:, :prefix] = False
    assert (found[0][dropped] == 0).all()
    if prefix:
        assert (found[0][:, 0] != 0).any()
    if queries == keys == 1.0:
        torch.testing.assert_close(found[0], attention(x, GRID), rtol=1e-9, atol=1e-10)


def test_gradients_pass_through_the_gather() -> None:
    attention, x = build(gate="none"), tokens().requires_grad_()
    kept = masks(0.5)
    attention(x, GRID, kept_queries=kept).square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert (x.grad != 0).any(dim=-1).all(), "a dropped query is still a key"


def test_the_order_of_the_batch_does_not_matter() -> None:
    attention, x, kept = build(), tokens(), masks(0.5)
    order = torch.tensor([2, 0, 1])
    found = attention(x, GRID, kept_queries=kept, kept_keys=kept)
    torch.testing.assert_close(attention(x[order], GRID, kept_queries=kept[order], kept_keys=kept[order]), found[order])


def test_a_sample_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        build()(tokens(), GRID, kept_keys=masks(0.0))


@pytest.mark.parametrize("gate", ["none", "straight_through"])
def test_executed_macs_fall_with_what_is_kept(gate: str) -> None:
    grid = (32, 40)
    attention = build(gate=gate, grid=grid).float()
    x = tokens(1280, batch=1).float()
    counted = []
    for fraction in (1.0, 0.5, 0.25):
        kept = (torch.arange(1280) < 1280 * fraction)[None]

        class Call(nn.Module):
            def __init__(self, kept: Tensor) -> None:
                super().__init__()
                self.attention, self.kept = attention, kept

            def forward(self, x: Tensor) -> Tensor:
                return self.attention(x, grid, kept_queries=self.kept, kept_keys=self.kept)

        counted.append(count_macs(Call(kept), x).total)
        count = int(kept.sum())
        assert counted[-1] == attention.executed_cost(count, count).macs
    assert counted[1] < 0.3 * counted[0]
    assert counted[2] < 0.1 * counted[0]


def test_where_pruning_does_not_pay_it_runs_dense() -> None:
    grid = (32, 40)
    attention = build(gate="none", grid=grid, break_even=0.9)
    assert attention.pays(grid, 640, 1280)
    assert not attention.pays(grid, 1216, 1280)


# The prior


def test_the_prior_of_known_matrices() -> None:
    n = 64
    uniform, identity, first = torch.full((n, n), 1 / n), torch.eye(n), torch.zeros(n, n)
    first[:, 0] = 1.0
    found = [float(self_supervised_prior(matrix[None, None])) for matrix in (uniform, identity, first)]
    assert found == pytest.approx([0.28, 0.08, 1.56], abs=0.005)


def test_the_prior_does_not_see_the_order_of_the_tokens() -> None:
    matrix = torch.softmax(3 * torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0)), dim=-1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(self_supervised_prior(matrix), self_supervised_prior(matrix[..., order, :][..., order]))


def test_the_prior_has_no_gradient_below_its_floor() -> None:
    matrix = torch.eye(64)[None, None].requires_grad_()
    self_supervised_prior(matrix).backward()
    assert matrix.grad is not None
    assert matrix.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_prior_is_finite_in_half_precision(dtype: torch.dtype) -> None:
    network = gossamer.create_model("vit_nano", attention="adaptive", image_size=(16, 16), patch_size=4)
    with torch.autocast("cpu", dtype):
        auxiliary = network.training_output(torch.randn(2, 3, 16, 16)).penalty
    assert auxiliary is not None
    auxiliary.backward()
    assert torch.isfinite(auxiliary)
    assert float(auxiliary.detach()) > 0
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", 1.5),
        ("break_even", -0.1),
        ("temperature", 0.0),
        ("head_dim", 0),
        ("budget_weight", -1.0),
        ("prior_weight", -1.0),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(GossamerError) as caught:
        AdaptiveConfig(**{name: value})  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, name)


def test_token_masks_are_refused() -> None:
    with pytest.raises(RefusalError):
        check_token_mask(AdaptiveConfig(), CheckSize(12, 3, (1, 11)))
