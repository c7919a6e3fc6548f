"""The numbered invariants of stand-alone self-attention, and of the operator behind it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gossamer.api.attention_checks import check_token_mask
from gossamer.api.attention_samples import CheckSize, RefusalError
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn import window as operator
from gossamer.nn.attention import LocalConfig
from gossamer.nn.attention.local import LocalAttention
from gossamer.nn.window import window_attention

DIM, HEADS = 8, 2
GRID = (11, 13)


def build(**options: Any) -> LocalAttention:
    torch.manual_seed(0)
    attention = LocalConfig(**options).build(DIM, HEADS, grid=GRID).double().eval()
    assert isinstance(attention, LocalAttention)
    return attention


def tokens(grid: tuple[int, int] = GRID) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, grid[0] * grid[1], DIM, dtype=torch.float64, generator=generator)


def values_of(attention: LocalAttention, x: Tensor) -> Tensor:
    return attention.qkv(x).chunk(3, dim=-1)[2]


def plane(x: Tensor, grid: tuple[int, int] = GRID) -> Tensor:
    return x.transpose(1, 2).unflatten(2, grid)


def test_weights_are_a_distribution_inside_and_lose_mass_to_the_border() -> None:
    matrix, _ = build(window=3).dense_form(tokens(), GRID)
    sums = matrix.sum(dim=-1).unflatten(-1, GRID)
    assert (matrix >= 0).all()
    torch.testing.assert_close(sums[..., 1:-1, 1:-1], torch.ones_like(sums[..., 1:-1, 1:-1]))
    assert (sums[..., 0, :] < 1).all()
    masked, _ = build(window=3, mask_padding=True).dense_form(tokens(), GRID)
    torch.testing.assert_close(masked.sum(dim=-1), torch.ones_like(masked[..., 0]))


def test_a_window_of_one_is_the_value_projection() -> None:
    attention, x = build(window=1), tokens().requires_grad_()
    out = attention(x, GRID)
    torch.testing.assert_close(out, attention.output(values_of(attention, x)))
    out.square().sum().backward()
    assert attention.qkv.weight.grad is not None
    assert attention.qkv.weight.grad[: 2 * DIM].abs().max() < 1e-12


@pytest.mark.parametrize("window", [3, 7])
def test_without_queries_it_is_a_box_mean(window: int) -> None:
    attention, x = build(window=window), tokens()
    with torch.no_grad():
        attention.qkv.weight[:DIM] = 0.0
        attention.qkv.bias[:DIM] = 0.0
    mean = F.avg_pool2d(plane(values_of(attention, x)), window, 1, window // 2, count_include_pad=True)
    torch.testing.assert_close(attention(x, GRID), attention.output(mean.flatten(2).transpose(1, 2)))


@pytest.mark.parametrize("mask_padding", [False, True])
def test_a_constant_image_stays_constant(mask_padding: bool) -> None:
    attention = build(window=5, mask_padding=mask_padding)
    x = tokens()[:, :1].expand(-1, GRID[0] * GRID[1], -1)
    found = plane(attention(x, GRID) - attention.output(values_of(attention, x)))
    if not mask_padding:
        assert found[..., 0, 0].abs().max() > 1e-3
        found = found[..., 2:-2, 2:-2]
    assert found.abs().max() < 1e-12


def test_a_constant_added_to_the_embeddings_changes_nothing() -> None:
    attention, x = build(window=5), tokens()
    before = attention(x, GRID)
    with torch.no_grad():
        attention.row.add_(torch.randn(HEADS, 1, DIM // HEADS // 2, dtype=torch.float64))
        attention.column.sub_(3.0)
    torch.testing.assert_close(attention(x, GRID), before)


@pytest.mark.parametrize("window", [3, 7])
def test_a_pixel_reaches_its_window_and_no_further(window: int) -> None:
    attention, x = build(window=window), tokens()
    changed = x.clone()
    changed[:, 5 * GRID[1] + 6] += 1.0
    moved = plane(attention(changed, GRID) - attention(x, GRID)).abs().amax(dim=(0, 1)) > 1e-12
    rows, columns = moved.any(dim=1).nonzero(), moved.any(dim=0).nonzero()
    side = window // 2
    assert (int(rows.min()), int(rows.max())) == (5 - side, 5 + side)
    assert (int(columns.min()), int(columns.max())) == (6 - side, 6 + side)


def test_a_shifted_image_gives_a_shifted_result() -> None:
    attention, x = build(window=3), tokens()
    image = plane(x)
    shifted = F.pad(image, (1, 0, 2, 0))[..., : GRID[0], : GRID[1]]
    found = plane(attention(shifted.flatten(2).transpose(1, 2), GRID))
    wanted = plane(attention(x, GRID))
    torch.testing.assert_close(found[..., 4:-1, 3:-1], wanted[..., 2:-3, 2:-2])


def test_heads_have_rows_in_their_first_half_and_columns_in_their_second() -> None:
    attention = build(window=3)
    relative = attention._relative().unflatten(1, (3, 3))
    assert torch.equal(relative[:, :, 0, :2], attention.row)
    assert torch.equal(relative[:, 0, :, 2:], attention.column)


def test_unscaled_is_the_published_form() -> None:
    scaled, unscaled, x = build(window=3), build(window=3, scale=False), tokens()
    with torch.no_grad():
        scaled.load_state_dict(unscaled.state_dict())
        scaled.qkv.weight[:DIM] *= scaled.head_dim**0.5
        scaled.qkv.bias[:DIM] *= scaled.head_dim**0.5
    torch.testing.assert_close(scaled(x, GRID), unscaled(x, GRID))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        LocalConfig(window=4)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "window")
    with pytest.raises(GossamerError) as caught:
        LocalConfig().build(DIM, HEADS, grid=GRID, num_prefix_tokens=1)
    assert (caught.value.code, caught.value.where) == (ErrorCode.UNSUPPORTED, "local")
    with pytest.raises(GossamerError) as caught:
        LocalConfig().build(9, 3, grid=GRID)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "num_heads")


def unfolded(q: Tensor, k: Tensor, v: Tensor, relative: Tensor, window: int, stride: int) -> Tensor:
    """The definition, with the copies that the operator never makes."""
    rows, columns = q.shape[1:3]
    keys, values = (
        part.unfold(1, window, stride).unfold(2, window, stride)[:, :rows, :columns].flatten(-2) for part in (k, v)
    )
    logits = torch.einsum("brchd,brchdk->brchk", q, keys) + torch.einsum("brchd,hkd->brchk", q, relative)
    return torch.einsum("brchk,brchdk->brchd", logits.softmax(-1), values)


def inputs(size: tuple[int, int], window: int, stride: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    padded = [stride * (side - 1) + window for side in size]

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    return [
        random(2, *size, 3, width),
        random(2, *padded, 3, width),
        random(2, *padded, 3, 5),
        random(3, window**2, width),
    ]


@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [4, 16])
@pytest.mark.parametrize("band", [1, 2**14, 2**23])
def test_the_operator_equals_unfolding(
    window: int, stride: int, width: int, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "BAND_BYTES", band)
    given = inputs((10, 17), window, stride, width)
    found, wanted = window_attention(*given, window, stride), unfolded(*given, window, stride)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), given),
        torch.autograd.grad((wanted * weight).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_order_of_a_graph_equals_unfolding(window: int, stride: int) -> None:
    given = inputs((10, 17), window, stride, 4)
    torch.testing.assert_close(operator._by_row(*given, window, stride), unfolded(*given, window, stride))


def test_the_operator_is_well_formed() -> None:
    given = inputs((4, 5), 3, 1, 4)
    torch.library.opcheck(
        torch.ops.gossamer.window_attention,
        (*given, 3, 1),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_token_masks_are_refused() -> None:
    with pytest.raises(RefusalError):
        check_token_mask(LocalConfig(), CheckSize(12, 3, (1, 11)))
