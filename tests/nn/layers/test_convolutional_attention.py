"""Convolutional projections: the fast order, the treatments of the key stride, and their closed forms."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expected_errors import expect_error
from gossamer.errors import ErrorCode
from gossamer.nn.attention import KeyValueConfig, KeyValuePosConfig, SoftmaxConfig
from gossamer.nn.attention.base import Host
from gossamer.nn.layers.convolutional_attention import ConvolutionalAttention, KeyStride, TokenConvolution
from gossamer.profiling.macs import count_macs

DIM, HEADS, GRID = 12, 3, (5, 7)
CONFIGS = {"softmax": SoftmaxConfig(), "kv": KeyValueConfig(), "kv_pos": KeyValuePosConfig(channels=10)}
TREATMENTS = get_args(KeyStride)
every_treatment = pytest.mark.parametrize("key_stride", TREATMENTS)
every_config = pytest.mark.parametrize("name", sorted(CONFIGS))


def build(name: str, key_stride: KeyStride, prefix: int = 0) -> ConvolutionalAttention:
    torch.manual_seed(3)
    attention = ConvolutionalAttention(CONFIGS[name], Host(DIM, HEADS, GRID, prefix), key_stride).double().eval()
    with torch.no_grad():
        for module in attention.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.bias, module.running_mean):
                    nn.init.normal_(values)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        if attention.position_weight is not None:
            attention.position_weight.normal_()
    return attention


def tokens(prefix: int = 0, grid: tuple[int, int] = GRID) -> Tensor:
    torch.manual_seed(4)
    return torch.randn(2, prefix + grid[0] * grid[1], DIM, dtype=torch.float64)


@every_config
@every_treatment
@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("gradients", [False, True])
def test_fast_equals_dense(name: str, key_stride: KeyStride, prefix: int, gradients: bool) -> None:
    attention, x = build(name, key_stride, prefix), tokens(prefix)
    with torch.set_grad_enabled(gradients):
        out = attention(x, GRID)
    matrix, values = attention.dense_form(x, GRID)
    torch.testing.assert_close(out, attention.apply_dense(matrix, values), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(matrix.sum(dim=-1), torch.ones_like(matrix[..., 0]))


def test_softmax_is_the_published_projection() -> None:
    attention, x = build("softmax", "shared_slice", 1), tokens(1)
    parts = []
    for kind, stride in (("query", 1), ("key", 2), ("value", 2)):
        before, linear = getattr(attention, f"{kind}_convolution"), getattr(attention, kind)
        plane = x[:, 1:].reshape(2, *GRID, DIM).permute(0, 3, 1, 2)
        plane = before.norm(F.conv2d(plane, before.convolution.weight, stride=stride, padding=1, groups=DIM))
        part = torch.cat([x[:, :1], plane.flatten(2).transpose(1, 2)], dim=1) @ linear.weight.T + linear.bias
        parts.append(part.reshape(2, -1, HEADS, DIM // HEADS).transpose(1, 2))
    queries, keys, values = parts
    heads = torch.softmax(queries @ keys.transpose(2, 3) / DIM**0.5, dim=-1) @ values
    expected = attention.output(heads.transpose(1, 2).reshape(2, -1, DIM))
    assert keys.shape[2] == 1 + 3 * 4
    torch.testing.assert_close(attention(x, GRID), expected)


@pytest.mark.parametrize("name", ["kv", "kv_pos"])
@pytest.mark.parametrize("grid", [(5, 7), (6, 4), (1, 3)])
def test_a_slice_of_one_stride_is_the_other_stride(name: str, grid: tuple[int, int]) -> None:
    sliced, strided, x = build(name, "shared_slice", 1), build(name, "shared_twostride", 1), tokens(1, grid)
    strided.load_state_dict(sliced.state_dict())
    assert float((sliced(x, grid) - strided(x, grid)).detach().abs().max()) < 1e-12


def test_only_two_strides_move_the_statistics_twice() -> None:
    for key_stride, times in (("shared_slice", 1), ("shared_twostride", 2)):
        attention = build("kv", key_stride).train()
        attention(tokens(), GRID)
        assert int(attention.key_convolution.norm.num_batches_tracked) == times  # type: ignore[arg-type]


@pytest.mark.parametrize("key_stride", ["shared_slice", "shared_twostride"])
def test_logits_are_symmetric_where_the_grids_coincide(key_stride: KeyStride) -> None:
    attention = build("kv", key_stride)
    queries, keys, _ = attention.project_tokens(tokens(), GRID)
    logits = (queries @ keys.transpose(2, 3)).unflatten(2, GRID)
    assert logits.shape[-1] == 3 * 4
    shared = logits[:, :, ::2, ::2].flatten(2, 3)
    torch.testing.assert_close(shared, shared.transpose(2, 3))
    odd = logits[:, :, 1::2, ::2].flatten(2, 3)
    assert not torch.allclose(odd, shared[:, :, : odd.shape[2]])


@pytest.mark.parametrize(
    ("key_stride", "keys"), [("s1", 35), ("shared_twostride", 12), ("shared_slice", 12), ("s2", 12)]
)
def test_every_token_has_a_row_and_every_key_a_column(key_stride: KeyStride, keys: int) -> None:
    matrix, values = build("kv", key_stride, 1).dense_form(tokens(1), GRID)
    assert matrix.shape == (2, HEADS, 36, 1 + keys)
    assert values.shape == (2, HEADS, 1 + keys, DIM // HEADS)


@every_treatment
def test_a_temperature_of_one_without_key_bias_is_kv(key_stride: KeyStride) -> None:
    plain, mapped, x = build("kv", key_stride), build("kv_pos", key_stride), tokens()
    mapped.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        mapped.position_weight.zero_()[0] = 1.0  # type: ignore[union-attr]
    torch.testing.assert_close(mapped(x, GRID), plain(x, GRID))
    with torch.no_grad():
        mapped.position_weight[-1] = 1.0  # type: ignore[index]
    assert not torch.allclose(mapped(x, GRID), plain(x, GRID), atol=1e-3)


@every_config
@every_treatment
@pytest.mark.parametrize("prefix", [0, 1])
def test_closed_form_equals_counted_macs(name: str, key_stride: KeyStride, prefix: int) -> None:
    attention = build(name, key_stride, prefix)

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, GRID)

    assert count_macs(Alone(), tokens(prefix)[:1]).total == attention.cost(GRID).macs


@every_treatment
def test_parameters_of_the_query_projection(key_stride: KeyStride) -> None:
    counts = {name: sum(p.numel() for p in build(name, key_stride).parameters()) for name in CONFIGS}
    assert counts["softmax"] - counts["kv"] == DIM * DIM + DIM + 9 * DIM + 2 * DIM
    assert counts["kv_pos"] - counts["kv"] == 10 + 1


def test_prefix_tokens_pass_a_convolution_untouched() -> None:
    layer, x = TokenConvolution(DIM, 2, stride=2).double(), tokens(2)
    out = layer(x, GRID)
    assert out.shape == (2, 2 + 3 * 4, DIM)
    assert torch.equal(out[:, :2], x[:, :2])


def test_refuses_padding() -> None:
    with expect_error("convolutional projection", code=ErrorCode.UNSUPPORTED):
        build("kv", "s1")(tokens(), GRID, torch.ones(2, 35, dtype=torch.bool))
