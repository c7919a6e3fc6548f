"""The numbered invariants of key-value attention, with and without the position map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.api.attention_checks import check_token_mask
from gossamer.api.attention_samples import CheckSize
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import KeyValueConfig, KeyValuePosConfig, SoftmaxConfig
from gossamer.nn.attention.base import AttentionConfig, split_heads
from gossamer.nn.attention.key_value import KeyValueAttention, KeyValuePosAttention, sinusoidal_positions

DIM, HEADS, COUNT = 12, 3, 19
GRID = (1, COUNT)


def kv() -> KeyValueAttention:
    torch.manual_seed(0)
    attention = KeyValueConfig().build(DIM, HEADS, grid=GRID).double().eval()
    assert isinstance(attention, KeyValueAttention)
    return attention


def kv_pos(*, scramble: bool = True, **options: object) -> KeyValuePosAttention:
    torch.manual_seed(0)
    attention = KeyValuePosConfig(**options).build(DIM, HEADS, grid=GRID).double().eval()  # type: ignore[arg-type]
    assert isinstance(attention, KeyValuePosAttention)
    if scramble:
        with torch.no_grad():
            attention.position_weight.normal_()
            attention.position_bias.normal_()
    return attention


def tokens(count: int = COUNT) -> Tensor:
    return torch.randn(2, count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def logits(attention: KeyValueAttention, x: Tensor) -> Tensor:
    keys, _ = split_heads(attention.key_value(x), 2, HEADS)
    return keys @ keys.transpose(-2, -1) * attention.head_dim**-0.5


def test_logits_are_symmetric_and_semi_definite() -> None:
    found = logits(kv(), tokens())
    assert (found - found.transpose(-2, -1)).abs().max() < 1e-12
    assert torch.linalg.eigvalsh(found).min() > -1e-10


def test_the_matrix_is_not_symmetric_but_balanced_in_detail() -> None:
    attention, x = kv(), tokens()
    matrix, _ = attention.dense_form(x, GRID)
    assert (matrix - matrix.transpose(-2, -1)).abs().max() > 1e-3
    flow = logits(attention, x).exp().sum(dim=-1, keepdim=True) * matrix
    torch.testing.assert_close(flow, flow.transpose(-2, -1))


@pytest.mark.parametrize("training", [False, True])
def test_rows_sum_to_one(training: bool) -> None:
    for attention in (kv(), kv_pos()):
        matrix, _ = attention.train(training).dense_form(tokens(), GRID)
        torch.testing.assert_close(matrix.sum(dim=-1), torch.ones_like(matrix[..., 0]))


def test_permutations_pass_through_kv_and_not_through_kv_pos() -> None:
    x, order = tokens(), torch.randperm(COUNT, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(kv()(x[:, order], GRID), kv()(x, GRID)[:, order])
    assert (kv_pos()(x[:, order], GRID) - kv_pos()(x, GRID)[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("channels", [4, 10, 20, 50])
@pytest.mark.parametrize("gradients", [True, False])
def test_the_reduced_form_equals_the_table(channels: int, gradients: bool) -> None:
    attention, x = kv_pos(channels=channels), tokens()
    with torch.set_grad_enabled(gradients):
        found = attention(x, GRID)
        wanted = attention.apply_dense(*attention.dense_form(x, GRID))
    assert (found - wanted).abs().max() < 1e-12


def test_the_split_of_channels_is_the_published_one() -> None:
    widths = {m: kv_pos(channels=m).code_width for m in (50, 10, 20)}
    assert widths == {50: 26, 10: 6, 20: 10}


def test_the_map_s_bias_has_no_gradient_and_the_query_half_only_that_of_the_temperature() -> None:
    attention = kv_pos(channels=10)
    attention(tokens(), GRID).square().sum().backward()
    assert attention.position_bias.grad is not None
    assert attention.position_weight.grad is not None
    assert attention.position_bias.grad.abs().max() < 1e-10
    of_queries = attention.position_weight.grad[: attention.code_width]
    torch.testing.assert_close(of_queries, of_queries[:1].expand_as(of_queries))


def test_temperature_one_and_no_key_bias_is_kv() -> None:
    plain, mapped = kv(), kv_pos(scramble=False)
    with torch.no_grad():
        mapped.position_weight.zero_()
        mapped.position_weight[0] = 1.0
    mapped.load_state_dict({**plain.state_dict(), **{k: v for k, v in mapped.state_dict().items() if "position" in k}})
    torch.testing.assert_close(mapped(tokens(), GRID), plain(tokens(), GRID))
    torch.testing.assert_close(mapped(tokens(), GRID), plain(tokens(), GRID))


def test_the_temperature_starts_at_one_unless_faithful() -> None:
    assert float(kv_pos(scramble=False).position_weight.detach().sum()) == pytest.approx(1.0)
    assert float(kv_pos(scramble=False, faithful_init=True).position_weight.detach().sum()) != pytest.approx(1.0)


def test_saved_parameters() -> None:
    def size(attention: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in attention.parameters())

    softmax = SoftmaxConfig().build(DIM, HEADS, grid=GRID)
    assert size(softmax) - size(kv()) == DIM**2 + DIM
    assert size(kv_pos()) - size(kv()) == 50 + 1


def test_any_number_of_tokens_and_a_class_token_shifts_the_index_by_one() -> None:
    attention = kv_pos()
    x = tokens(131)
    found = attention(x, (1, 131))
    assert (found - attention.apply_dense(*attention.dense_form(x, (1, 131)))).abs().max() < 1e-12
    code = sinusoidal_positions(5, 6, torch.zeros((), dtype=torch.float64))
    assert code[0].tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert float(code[3, 0]) == pytest.approx(0.1411200081)


def test_frozen_projections_still_train_the_map() -> None:
    attention = kv_pos()
    attention.key_value.requires_grad_(False)
    attention(tokens(), GRID).square().sum().backward()
    assert attention.position_weight.grad is not None
    assert attention.position_weight.grad.abs().max() > 0


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        KeyValuePosConfig(channels=3)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "channels")


@pytest.mark.parametrize("described", [KeyValueConfig(), KeyValuePosConfig()])
def test_token_masks_are_taken(described: AttentionConfig) -> None:
    check_token_mask(described, CheckSize(12, 3, (1, 11)))
