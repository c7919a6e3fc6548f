"""Inverses of symmetric positive definite matrices: Newton's iteration and Cholesky's factorization.

Newton's iteration (SOFT, arXiv 2110.11945, algorithm 2) needs products alone, and after T steps is a spectral filter:
eigenvalues below ``|A|_1 sqrt(ln 2 / (1.8 2^T))`` are suppressed and not inverted. That is another function than the
inverse, so which one is meant is always said, and one never stands in for the other. A graph for export has no
factorization; there ``converged_inverse`` gives Cholesky's, by products alone.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

Method = Literal["newton", "newton_tolerance", "cholesky"]
MOST_STEPS = 60
"""Steps after which Newton to a tolerance gives up; each doubles the digits once it converges."""
_UNIT = 2.0**-24
"""Half of the distance from 1 to the next number of float32."""


def symmetric_inverse(
    matrix: Float[Tensor, "*batch n n"],
    method: Method,
    *,
    steps: int = 20,
    tolerance: float = 1e-5,
    closed_form_gradient: bool = False,
    step_of: Float[Tensor, "*batch n n"] | None = None,
    condition: float = math.inf,
) -> Float[Tensor, "*batch n n"]:
    """Return the inverse of each matrix, as ``method`` defines it.

    Args:
        matrix: symmetric, positive definite.
        method: ``newton`` takes ``steps`` steps; ``newton_tolerance`` steps each matrix until its residual is below
            ``tolerance``; ``cholesky`` factorizes.
        steps: of ``newton``.
        tolerance: on ``max |X A - I|``, of ``newton_tolerance``.
        closed_form_gradient: use ``-X^T G X^T``, the gradient of an inverse, for ``newton``, as SOFT's authors do. It
            is the gradient of what was computed only where the iteration has converged. The other two always use it.
        step_of: the matrix whose norm sets Newton's first step; ``matrix`` if left out.
        condition: bound on ``|A|_1`` over the smallest eigenvalue, by which a graph for export gives ``cholesky``; none
            is made of that without one.
    """
    if method == "newton" and not closed_form_gradient:
        return newton_inverse(matrix, steps, step_of=step_of)
    if torch.compiler.is_exporting():
        if method == "cholesky" and math.isfinite(condition):
            return converged_inverse(matrix, condition)
        return _evaluate(matrix, method, steps, tolerance, step_of)
    return _ClosedForm.apply(matrix, method, steps, tolerance, step_of)  # type: ignore[no-any-return]


def newton_inverse(
    matrix: Float[Tensor, "*batch n n"], steps: int, *, step_of: Float[Tensor, "*batch n n"] | None = None
) -> Float[Tensor, "*batch n n"]:
    """Return ``steps`` of ``X <- 2 X - X A X`` from ``X = alpha A`` with ``alpha = 1.8 / |A|_1^2`` of each matrix."""
    inverse = _start(matrix, step_of)
    for _ in range(steps):
        inverse = 2.0 * inverse - inverse @ matrix @ inverse
    return inverse


def converged_inverse(matrix: Float[Tensor, "*batch n n"], condition: float) -> Float[Tensor, "*batch n n"]:
    """Return the inverse by Newton's iteration, with as many steps as float32 wants whatever the matrix is.

    From ``X = 2 / (|A|_1 (1 + 1/c)) I`` an eigenvalue ``x |A|_1`` of A is inverted but for ``(1 - 2 x / (1 + 1/c))`` to
    the power of ``2^T``, at most ``exp(-2^(T + 1) / (1 + c))``. Starting from A itself squares the condition.

    Args:
        matrix: symmetric, positive definite.
        condition: c, a bound on ``|A|_1`` over the smallest eigenvalue.
    """
    steps = math.ceil(math.log2(0.5 * (1.0 + condition) * -math.log(_UNIT)))
    norm = matrix.abs().sum(dim=-1).amax(dim=-1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = eye * (2.0 / (norm * (1.0 + 1.0 / condition)))[..., None, None]
    for _ in range(steps):
        inverse = 2.0 * inverse - inverse @ (matrix @ inverse)
    return inverse


def inverse_residual(
    matrix: Float[Tensor, "*batch n n"], inverse: Float[Tensor, "*batch n n"]
) -> Float[Tensor, "*batch"]:
    """Return ``max |X A - I|`` of each matrix: small for an inverse alone, while ``A X A - A`` is for any filter."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return (inverse @ matrix - eye).abs().amax(dim=(-2, -1))


def _start(matrix: Tensor, step_of: Tensor | None) -> Tensor:
    norm = (matrix if step_of is None else step_of).abs().sum(dim=-1).amax(dim=-1)
    return matrix * (1.8 / norm.square())[..., None, None]


def _evaluate(matrix: Tensor, method: Method, steps: int, tolerance: float, step_of: Tensor | None) -> Tensor:
    if method == "cholesky":
        return torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    if method == "newton":
        return newton_inverse(matrix, steps, step_of=step_of)
    inverse = _start(matrix, step_of)
    for _ in range(MOST_STEPS):
        done = inverse_residual(matrix, inverse) <= tolerance
        if bool(done.all()):
            break
        # A matrix that has converged is left alone, so that a result does not depend on its batch mates.
        inverse = torch.where(done[..., None, None], inverse, 2.0 * inverse - inverse @ matrix @ inverse)
    return inverse


class _ClosedForm(Function):
    """Any of the methods, with the gradient of an inverse."""

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, method: Method, steps: int, tolerance: float, step_of: Tensor | None
    ) -> Tensor:
        inverse = _evaluate(matrix, method, steps, tolerance, step_of)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (inverse,) = ctx.saved_tensors
        transposed = inverse.transpose(-2, -1)
        return -(transposed @ gradients[0] @ transposed), None, None, None, None
