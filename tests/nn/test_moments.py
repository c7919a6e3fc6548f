"""Moments by chunks: any division of the tokens gives the same, and large means cost no digits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.nn.moments import CHUNK, TokenMoments, apply_affine_map, token_moments


def tokens(count: int, batch: int = 2, dim: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(batch, count, dim, generator=generator, dtype=torch.float64) + 3.0


def close(found: TokenMoments, wanted: TokenMoments) -> None:
    torch.testing.assert_close(found.count, wanted.count)
    torch.testing.assert_close(found.mean, wanted.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.scatter, wanted.scatter, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("count", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 313])
def test_moments_are_those_of_the_definition(count: int) -> None:
    x = tokens(count)
    mean, covariance = token_moments(x).finish()
    centred = x - x.mean(dim=1, keepdim=True)
    torch.testing.assert_close(mean, x.mean(dim=1))
    torch.testing.assert_close(covariance, centred.transpose(1, 2) @ centred / count)


@pytest.mark.parametrize("step", [1, 3, 50, 101])
def test_a_stream_of_any_step_gives_the_whole(step: int) -> None:
    x = tokens(101)
    state = TokenMoments.empty(2, 5)
    for start in range(0, 101, step):
        state = state.update(x[:, start : start + step])
    close(state, token_moments(x))


def test_processes_merge_in_any_order() -> None:
    x = tokens(90)
    parts = [token_moments(part) for part in x.split([20, 1, 69], dim=1)]
    whole = token_moments(x)
    close(parts[0].merge(parts[1]).merge(parts[2]), whole)
    close(parts[2].merge(parts[0].merge(parts[1])), whole)
    close(TokenMoments.empty(2, 5).merge(whole), whole)


def test_padding_counts_for_nothing_whatever_it_holds() -> None:
    x = tokens(2 * CHUNK + 5)
    mask = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.3
    mask[0, :CHUNK] = False
    found = token_moments(x.masked_fill(~mask[..., None], float("nan")), mask)
    for sample in range(2):
        wanted = token_moments(x[sample : sample + 1, mask[sample]])
        torch.testing.assert_close(found.scatter[sample], wanted.scatter[0])
        torch.testing.assert_close(found.mean[sample], wanted.mean[0])


def test_gradients_by_chunks_are_those_of_the_definition() -> None:
    x = tokens(CHUNK + 37).requires_grad_()
    mask = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.7
    weight = torch.randn(2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moments = token_moments(x, mask)
    ((moments.scatter * weight).sum() + moments.mean.square().sum()).backward()
    y = x.detach().clone().requires_grad_()
    kept = y * mask[..., None]
    mean = kept.sum(dim=1) / mask.sum(dim=1)[:, None]
    centred = (y - mean[:, None]) * mask[..., None]
    ((centred.transpose(1, 2) @ centred * weight).sum() + mean.square().sum()).backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_affine_map_and_its_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    x = tokens(CHUNK + 37)
    shapes = ((2, 5), (2, 5, 4), (2, 4))
    inputs = [x, *(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)]
    inputs = [value.requires_grad_() for value in inputs]
    found = apply_affine_map(*inputs)
    wanted = (inputs[0] - inputs[1][:, None]) @ inputs[2] + inputs[3][:, None]
    torch.testing.assert_close(found, wanted)
    weight = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((wanted * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_mean_of_a_hundred_deviations_costs_no_digits_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4096, 16, generator=generator) + 100.0
    wanted = token_moments(x.double()).scatter
    assert (token_moments(x).scatter - wanted).norm() / wanted.norm() < 1e-6
    unshifted = (x.transpose(1, 2) @ x).double() - 4096 * (x.mean(1)[..., None] * x.mean(1)[:, None]).double()
    assert (unshifted - wanted).norm() / wanted.norm() > 1e-3
