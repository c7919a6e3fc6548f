"""Gaussian kernels between points, and landmarks as the means of the cells of a grid."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_kernel(left: Tensor, right: Tensor, power: float) -> Tensor:
    """Return ``exp(-power |l_a - r_i|^2 / 2)`` from one product; rounding never makes an exponent positive."""
    left_norms = 0.5 * power * left.square().sum(dim=-1, keepdim=True)
    scaled = (left * power).flatten(0, 1)
    others = right.flatten(0, 1).transpose(1, 2)
    if torch.is_grad_enabled() or torch.compiler.is_exporting():
        right_norms = -0.5 * power * right.square().sum(dim=-1)[:, :, None]
        exponents = (scaled @ others).unflatten(0, left.shape[:2]) + right_norms - left_norms
        return exponents.clamp(max=0.0).exp()
    right_norms = -0.5 * power * torch.linalg.vector_norm(right, dim=-1).square()[:, :, None]
    exponents = torch.baddbmm(right_norms.flatten(0, 1), scaled, others).unflatten(0, left.shape[:2])
    return exponents.sub_(left_norms).clamp_(max=0.0).exp_()


def pool_cells(tokens: Tensor, grid: tuple[int, ...], cells: tuple[int, ...]) -> Tensor:
    """Return the mean of each cell (batch, cells, dim); cells are those of adaptive average pooling.

    A cell is a product of intervals, so each axis is averaged by itself, without bringing the channels to the front.
    """
    means = tokens.unflatten(1, grid)
    for axis, (side, count) in enumerate(zip(grid, cells, strict=True), start=1):
        if torch.compiler.is_exporting():
            means = (means.movedim(axis, -1) @ _cell_means(side, count, tokens)).movedim(-1, axis)
        elif side % count == 0:
            means = means.unflatten(axis, (count, side // count)).mean(dim=axis + 1)
        else:
            bounds = [(cell * side // count, -(-(cell + 1) * side // count)) for cell in range(count)]
            parts = [means.narrow(axis, begin, end - begin).mean(dim=axis) for begin, end in bounds]
            means = torch.stack(parts, dim=axis)
    return means.flatten(1, -2)


def _cell_means(side: int, count: int, like: Tensor) -> Tensor:
    """Return the matrix (side, count) that averages the cells of adaptive pooling, for exporters without it."""
    places = torch.arange(side, device=like.device)[:, None]
    numbers = torch.arange(count, device=like.device)[None]
    begins, ends = numbers * side // count, ((numbers + 1) * side + count - 1) // count
    inside = ((places >= begins) & (places < ends)).to(like.dtype)
    return inside / inside.sum(dim=0, keepdim=True)
