"""Inverses of symmetric positive definite matrices: Newton's iteration and Cholesky's factorization.

Newton's iteration (SOFT, arXiv 2110.11945, algorithm 2) needs only products, and after T steps it is a spectral filter:
eigenvalues below ``|A|_1 sqrt(ln 2 / (1.8 2^T))`` are suppressed rather than inverted. That is a different function
from the inverse, so callers always choose one, and neither replaces the other silently. An exported graph has no
factorization; there ``converged_inverse`` gives the result of Cholesky's by products alone.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

InverseMethod = Literal["newton", "newton_tolerance", "cholesky"]
MOST_STEPS = 60
"""Number of steps after which Newton to a tolerance gives up. Each step doubles the digits once it converges."""
_UNIT = 2.0**-24
"""Half of the distance from 1 to the next number of float32."""


def symmetric_inverse(
    matrix: Float[Tensor, "*batch n n"],
    method: InverseMethod,
    *,
    steps: int = 20,
    tolerance: float = 1e-5,
    closed_form_gradient: bool = False,
    step_of: Float[Tensor, "*batch n n"] | None = None,
    condition: float = math.inf,
) -> Float[Tensor, "*batch n n"]:
    """Return the inverse of each matrix, as ``method`` defines it.

    Args:
        matrix: Symmetric positive definite matrices.
        method: ``newton`` takes ``steps`` steps; ``newton_tolerance`` steps each matrix until its residual is below
            ``tolerance``; ``cholesky`` factorizes.
        steps: Number of steps of ``newton``.
        tolerance: Largest residual ``max |X A - I|`` of ``newton_tolerance``.
        closed_form_gradient: Whether ``newton`` uses ``-X^T G X^T``, the gradient of an inverse, as SOFT's authors do.
            It is the gradient of the computed result only if the iteration has converged. The other methods always
            use it.
        step_of: Matrices whose norm sets Newton's first step (default: ``matrix``).
        condition: Bound on ``|A|_1`` over the smallest eigenvalue, with which an exported graph gives the result of
            ``cholesky`` (default: none; ``cholesky`` then cannot be exported).
    """
    if method == "newton" and not closed_form_gradient:
        return newton_inverse(matrix, steps, step_of=step_of)
    if torch.compiler.is_exporting():
        if method == "cholesky" and math.isfinite(condition):
            return converged_inverse(matrix, condition)
        return _compute_inverse(matrix, method, steps, tolerance, step_of)
    return _ClosedForm.apply(matrix, method, steps, tolerance, step_of)  # type: ignore[no-any-return]


def newton_inverse(
    matrix: Float[Tensor, "*batch n n"], steps: int, *, step_of: Float[Tensor, "*batch n n"] | None = None
) -> Float[Tensor, "*batch n n"]:
    """Return ``X`` after ``steps`` of ``X <- 2 X - X A X`` from ``X = alpha A`` with ``alpha = 1.8 / |A|_1^2``."""
    inverse = _first_iterate(matrix, step_of)
    for _ in range(steps):
        inverse = 2.0 * inverse - inverse @ matrix @ inverse
    return inverse


def converged_inverse(matrix: Float[Tensor, "*batch n n"], condition: float) -> Float[Tensor, "*batch n n"]:
    """Return the inverse by Newton's iteration, with enough steps for float32 whatever the matrix is.

    Started at ``X = 2 / (|A|_1 (1 + 1/c)) I``, the relative error of an eigenvalue ``x |A|_1`` of A after T steps is
    ``(1 - 2 x / (1 + 1/c))`` to the power of ``2^T``, at most ``exp(-2^(T + 1) / (1 + c))``. Starting from A itself
    would square the condition.

    Args:
        matrix: Symmetric positive definite matrices.
        condition: Bound c on ``|A|_1`` over the smallest eigenvalue.
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
    """Return ``max |X A - I|`` of each matrix. It is small only for an inverse; ``A X A - A`` is so for any filter."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return (inverse @ matrix - eye).abs().amax(dim=(-2, -1))


def _first_iterate(matrix: Tensor, step_of: Tensor | None) -> Tensor:
    """Return ``alpha A``, where Newton's iteration starts."""
    norm = (matrix if step_of is None else step_of).abs().sum(dim=-1).amax(dim=-1)
    return matrix * (1.8 / norm.square())[..., None, None]


def _compute_inverse(
    matrix: Tensor, method: InverseMethod, steps: int, tolerance: float, step_of: Tensor | None
) -> Tensor:
    if method == "cholesky":
        return torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    if method == "newton":
        return newton_inverse(matrix, steps, step_of=step_of)
    inverse = _first_iterate(matrix, step_of)
    for _ in range(MOST_STEPS):
        done = inverse_residual(matrix, inverse) <= tolerance
        if bool(done.all()):
            break
        # A matrix that has converged stays as it is, so that a result does not depend on the rest of its batch.
        inverse = torch.where(done[..., None, None], inverse, 2.0 * inverse - inverse @ matrix @ inverse)
    return inverse


class _ClosedForm(Function):
    """Any of the methods, with the gradient of an inverse."""

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, method: InverseMethod, steps: int, tolerance: float, step_of: Tensor | None
    ) -> Tensor:
        inverse = _compute_inverse(matrix, method, steps, tolerance, step_of)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (inverse,) = ctx.saved_tensors
        transposed = inverse.transpose(-2, -1)
        return -(transposed @ gradients[0] @ transposed), None, None, None, None
