"""SimA as published: its norms, and the decay that sequence normalization was made to end."""

from __future__ import annotations

import torch

from gossamer.api.attention_checks import check_token_mask
from gossamer.api.attention_samples import CheckSize
from gossamer.nn.attention import SimAConfig


def test_columns_of_queries_and_keys_have_unit_l1_norm() -> None:
    attention = SimAConfig().build(6, 2, grid=(1, 17)).double()
    x = torch.randn(2, 17, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, k, v = (part.view(2, 17, 2, 3).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    q, k = q / q.abs().sum(2, keepdim=True), k / k.abs().sum(2, keepdim=True)
    torch.testing.assert_close(attention(x, (1, 17)), attention.project(q @ (k.transpose(-2, -1) @ v)))


def test_the_output_shrinks_as_one_over_the_tokens() -> None:
    attention = SimAConfig().build(64, 1, grid=(28, 28), qkv_bias=False)
    spread = {}
    for side in (28, 112):
        x = torch.randn(1, side * side, 64, generator=torch.Generator().manual_seed(side))
        with torch.no_grad():
            spread[side] = float((attention(x, (side, side)) - attention.output.bias).std())
    assert 1 / 30 < spread[112] / spread[28] < 1 / 8


def test_few_tokens_take_the_other_order_with_the_same_result() -> None:
    attention = SimAConfig().build(24, 1, grid=(1, 5)).double()
    x = torch.randn(2, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix, values = attention.dense_form(x, (1, 5))
    torch.testing.assert_close(attention(x, (1, 5)), attention.apply_dense(matrix, values))
    assert attention.cost((1, 5)).macs == 4 * 5 * 24 * 24 + 2 * 5 * 5 * 24


def test_token_masks_are_taken() -> None:
    check_token_mask(SimAConfig(), CheckSize(12, 3, (1, 11)))
