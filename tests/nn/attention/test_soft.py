"""The numbered invariants of SOFT and of its normalized form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gossamer.api.attention_checks import check_token_mask
from gossamer.api.attention_samples import CheckSize, RefusalError
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import SoftConfig, SoftNormConfig
from gossamer.nn.attention.base import AttentionConfig
from gossamer.nn.attention.soft import SoftAttention
from gossamer.nn.gaussian_kernel import gaussian_kernel, pool_cells
from gossamer.profiling.macs import count_macs

DIM, HEADS = 12, 3
BOTH = pytest.mark.parametrize("kind", [SoftConfig, SoftNormConfig])


def build(grid: tuple[int, int], kind: type[SoftConfig] = SoftConfig, **options: Any) -> SoftAttention:
    torch.manual_seed(0)
    attention = kind(**options).build(DIM, HEADS, grid=grid).double().eval()
    assert isinstance(attention, SoftAttention)
    return attention


def tokens(grid: tuple[int, int], batch: int = 2) -> Tensor:
    count = grid[0] * grid[1]
    return torch.randn(batch, count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def exact(attention: SoftAttention, x: Tensor) -> Tensor:
    """The whole kernel matrix, without landmarks."""
    points = attention.shared(x).unflatten(2, (HEADS, -1)).transpose(1, 2) * attention.head_dim**-0.25
    return torch.exp(-0.5 * torch.cdist(points, points).square())


def test_the_kernel_is_agaussian_kernel() -> None:
    points = 30.0 * torch.randn(2, 3, 40, 4, generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernel(points, points, 1.0)
    assert kernel.max() <= 1.0
    assert (torch.diagonal(kernel, dim1=-2, dim2=-1) > 0.99).all()
    square = gaussian_kernel(0.1 * points.double(), 0.1 * points.double(), 1.0)
    torch.testing.assert_close(square, square.transpose(-2, -1))
    assert torch.linalg.eigvalsh(square).min() > -1e-6


def test_the_low_rank_matrix_lies_below_the_whole() -> None:
    grid = (9, 8)
    attention, x = build(grid, inverse="cholesky", jitter=1e-10, cells=(3, 3), scale="none"), tokens(grid)
    matrix, _ = attention.dense_form(x, grid)
    torch.testing.assert_close(matrix, matrix.transpose(-2, -1))
    assert torch.linalg.eigvalsh(matrix).min() > -1e-8
    assert torch.linalg.eigvalsh(exact(attention, x) - matrix).min() > -1e-8


def test_landmarks_that_are_the_tokens_give_the_whole() -> None:
    grid = (4, 5)
    attention, x = build(grid, inverse="cholesky", jitter=0.0, scale="none"), tokens(grid)
    matrix, _ = attention.dense_form(x, grid)
    torch.testing.assert_close(matrix, exact(attention, x), rtol=1e-8, atol=1e-9)


def test_a_constant_added_to_all_queries_changes_nothing() -> None:
    grid = (9, 8)
    attention, x = build(grid), tokens(grid)
    before = attention(x, grid)
    with torch.no_grad():
        attention.shared.bias.add_(torch.randn(DIM, dtype=torch.float64))
    torch.testing.assert_close(attention(x, grid), before)


def test_tokens_may_change_places_within_a_cell_and_not_beyond() -> None:
    grid = (6, 4)
    attention, x = build(grid, cells=(2, 2)), tokens(grid)
    inside, beyond = torch.arange(24), torch.arange(24)
    inside[[0, 5]], beyond[[0, 23]] = inside[[5, 0]], beyond[[23, 0]]
    torch.testing.assert_close(attention(x[:, inside], grid), attention(x, grid)[:, inside])
    assert (attention(x[:, beyond], grid) - attention(x, grid)[:, beyond]).abs().max() > 1e-6


def test_pooling_commutes_with_the_projection() -> None:
    x = torch.randn(2, 35, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for cells in ((2, 3), (5, 1)):
        torch.testing.assert_close(pool_cells(x @ weight, (5, 7), cells), pool_cells(x, (5, 7), cells) @ weight)
        plane = x.transpose(1, 2).unflatten(2, (5, 7))
        wanted = torch.nn.functional.adaptive_avg_pool2d(plane, cells).flatten(2).transpose(1, 2)
        torch.testing.assert_close(pool_cells(x, (5, 7), cells), wanted)


@BOTH
@pytest.mark.parametrize("inverse", ["newton", "newton_tolerance", "cholesky"])
@pytest.mark.parametrize("scale", ["none", "reference", "full"])
@pytest.mark.parametrize("extra", [{}, {"landmarks": "convolution", "ratio": 2}, {"local_kernel": 3}])
def test_every_variant_runs_and_equals_its_definition(
    kind: type[SoftConfig], inverse: str, scale: str, extra: dict[str, Any]
) -> None:
    grid = (9, 11)
    attention = build((7, 7), kind, inverse=inverse, scale=scale, cells=(3, 4), jitter=0.1, **extra)
    x = tokens(grid)
    fast, dense = attention(x, grid), attention.apply_dense(*attention.dense_form(x, grid))
    assert (fast - dense).norm() / dense.norm() < 1e-8


@BOTH
def test_a_peaky_neighbour_in_the_batch_changes_nothing(kind: type[SoftConfig]) -> None:
    grid = (6, 7)
    attention, x = build(grid, kind), tokens(grid)
    x[1] *= 50.0
    torch.testing.assert_close(attention(x, grid)[:1], attention(x[:1], grid), rtol=1e-12, atol=1e-12)


def test_soft_norm_divides_by_the_root_of_the_landmarks_row_sums() -> None:
    grid = (5, 5)
    plain, normed = (build(grid, kind, cells=(3, 3)) for kind in (SoftConfig, SoftNormConfig))
    normed.load_state_dict(plain.state_dict())
    x = tokens(grid)
    inverse = plain._inverse(plain._points(x, grid)[1])
    found = normed._inverse(normed._points(x, grid)[1])
    landmarks = plain._points(x, grid)[1] * plain.head_dim**-0.25
    root = torch.exp(-0.5 * torch.cdist(landmarks, landmarks).square()).sum(dim=-1).rsqrt()
    torch.testing.assert_close(found, root[..., None] * inverse * root[..., None, :])


def smooth_field(side: int) -> Tensor:
    """A field of low frequencies, sampled at any resolution: more tokens, the same image."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(1, DIM, 8, 8, generator=generator, dtype=torch.float64)
    plane = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    return 2.0 * plane.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("scale", "low", "high"), [("none", 12.0, 20.0), ("reference", 0.8, 1.2), ("full", 0.8, 1.2)])
def test_row_sums_stay_when_the_resolution_grows(scale: str, low: float, high: float) -> None:
    attention = build((28, 28), scale=scale, cells=(7, 7))
    sums = []
    for side in (28, 112):
        points, landmarks = attention._points(smooth_field(side), (side, side))
        kernel, inverse = gaussian_kernel(landmarks, points, attention.head_dim**-0.5), attention._inverse(landmarks)
        ones = torch.ones(*kernel.shape[:2], side * side, 1, dtype=torch.float64)
        row = attention._row_scale(kernel, inverse) if scale == "full" else torch.ones((), dtype=torch.float64)
        row = row * attention._scale((side, side), kernel).sqrt()
        sums.append(float((row * (kernel.transpose(-2, -1) @ (inverse @ (kernel @ (row * ones))))).mean().detach()))
    assert low < sums[1] / sums[0] < high


def test_work_is_linear_in_the_tokens_and_the_released_form_is_not() -> None:
    with torch.device("meta"):
        ours = SoftConfig(cells=(7, 7)).build(64, 2, grid=(56, 56))
        released = SoftConfig(landmarks="convolution", ratio=8).build(64, 2, grid=(56, 56))
    growth = [attention.cost((224, 224)).macs / attention.cost((56, 56)).macs for attention in (ours, released)]
    assert growth[0] < 16.5
    assert growth[1] > 200.0


@pytest.mark.parametrize(
    "options",
    [
        {"landmarks": "convolution", "ratio": 4, "local_kernel": 5, "scale": "full"},
        {"inverse": "cholesky"},
    ],
)
def test_every_form_counts_as_it_runs(options: dict[str, Any]) -> None:
    grid = (16, 18)
    attention = build(grid, **options).float()

    class Call(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, grid)

    assert count_macs(Call(), tokens(grid, batch=1).float()).total == attention.cost(grid).macs


def test_what_does_not_fit_is_refused() -> None:
    wrong: dict[str, Any] = {
        "jitter": -0.1,
        "tolerance": 0.0,
        "local_kernel": 4,
        "ratio": 0,
        "steps": 0,
        "cells": (0, 7),
    }
    for name, value in wrong.items():
        with pytest.raises(GossamerError) as caught:
            SoftConfig(**{name: value})
        assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, name)
    with pytest.raises(GossamerError) as caught:
        build((5, 5), landmarks="convolution", ratio=8)(tokens((5, 5)), (5, 5))
    assert caught.value.code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize(("dim", "heads", "folds"), [(12, 1, True), (12, 6, False)])
def test_both_orders_are_one_function(dim: int, heads: int, folds: bool) -> None:
    grid = (9, 10)
    torch.manual_seed(0)
    attention = SoftConfig(cells=(3, 3)).build(dim, heads, grid=grid).double().eval()
    assert isinstance(attention, SoftAttention)
    x = torch.randn(2, 90, dim, dtype=torch.float64)
    assert attention.folds(grid) is folds
    other = SoftConfig(cells=(3, 3)).build(dim, heads, grid=grid).double().eval()
    assert isinstance(other, SoftAttention)
    other.load_state_dict(attention.state_dict())
    other._pinned = not folds
    torch.testing.assert_close(attention(x, grid), other(x, grid))
    assert attention.cost(grid).macs < other.cost(grid).macs


def test_a_kernel_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = (9, 10)
    torch.manual_seed(0)
    attention = SoftConfig(cells=(3, 3)).build(12, 1, grid=grid).double().eval()
    x = torch.randn(2, 90, 12, dtype=torch.float64)
    wanted, macs = attention(x, grid), attention.cost(grid).macs
    monkeypatch.setattr("gossamer.nn.attention.soft.LARGEST_KERNEL", 100)
    monkeypatch.setattr("gossamer.nn.attention.soft.CHUNK", 32)
    with torch.no_grad():
        torch.testing.assert_close(attention(x, grid), wanted)
    assert attention.cost(grid).macs == macs + 90 * 9 * 12


def test_a_kernel_in_chunks_keeps_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.nn.attention.soft.LARGEST_KERNEL", 100)
    attention = SoftConfig(cells=(3, 3)).build(12, 1, grid=(9, 10), dropout=0.5).train()
    with torch.no_grad():
        assert (attention(torch.randn(1, 90, 12), (9, 10)) == 0).any()


@pytest.mark.parametrize("described", [SoftConfig(), SoftNormConfig()])
def test_token_masks_are_refused(described: AttentionConfig) -> None:
    with pytest.raises(RefusalError):
        check_token_mask(described, CheckSize(12, 3, (1, 11)))
