"""Newton's iteration is a spectral filter; Cholesky's is the inverse."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from gossamer.nn.inverse import converged_inverse, inverse_residual, newton_inverse, symmetric_inverse

SIZE = 49


def conditioned(condition: float, seed: int = 0) -> Tensor:
    """A symmetric positive definite matrix with eigenvalues from 1 down to 1/condition."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), SIZE, dtype=torch.float64)
    return basis @ torch.diag(values) @ basis.T


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("steps", [0, 6, 20])
def test_newton_is_the_spectral_filter(steps: int) -> None:
    matrix = conditioned(1e3)
    step = 1.8 / matrix.abs().sum(dim=-1).max() ** 2
    values, vectors = torch.linalg.eigh(matrix)
    wanted = vectors @ torch.diag((1 - (1 - step * values**2) ** (2**steps)) / values) @ vectors.T
    assert relative(newton_inverse(matrix, steps), wanted) < 1e-9


def test_newton_keeps_symmetry_commutes_and_scales() -> None:
    matrix = conditioned(1e2)
    inverse = newton_inverse(matrix, 20)
    assert (inverse - inverse.T).abs().max() < 1e-12 * inverse.abs().max()
    assert relative(inverse @ matrix, matrix @ inverse) < 1e-12
    assert relative(newton_inverse(7.0 * matrix, 20), inverse / 7.0) < 1e-12


def test_the_published_residual_is_blind_and_ours_is_not() -> None:
    matrix = conditioned(1e6)
    inverse = newton_inverse(matrix, 20)
    norm = torch.linalg.matrix_norm
    published = norm(matrix @ inverse @ matrix - matrix, 2) / norm(matrix, 2)
    bound = 3.2e-4 * matrix.abs().sum(dim=-1).max() / torch.linalg.eigvalsh(matrix).max()
    assert published <= bound
    assert inverse_residual(matrix, inverse) > 0.5


def test_the_published_residual_falls_with_every_step() -> None:
    matrix = conditioned(1e4)
    found = [float((matrix @ newton_inverse(matrix, steps) @ matrix - matrix).norm()) for steps in range(15)]
    assert all(later < earlier for earlier, later in itertools.pairwise(found))


def test_cholesky_is_exact_where_newton_is_not() -> None:
    matrix = conditioned(1e4)
    wanted = torch.linalg.inv(matrix)
    assert relative(symmetric_inverse(matrix.float(), "cholesky"), wanted) <= 1e-4
    assert relative(symmetric_inverse(matrix.float(), "newton", steps=20), wanted) >= 0.6


@pytest.mark.parametrize("condition", [2.0, 30.0, 4900.0])
def test_enough_steps_for_the_condition_give_the_inverse(condition: float) -> None:
    matrix = torch.stack([5.0 * conditioned(condition), conditioned(1.5)])
    bound = float(matrix.abs().sum(dim=-1).max()) * condition / 5.0
    found = converged_inverse(matrix, bound)
    for one, inverse in zip(matrix, found, strict=True):
        assert inverse_residual(one, inverse) < 1e-6
    single = converged_inverse(matrix.float(), bound)
    assert relative(single[0], torch.linalg.inv(matrix[0])) < 1e-7 * condition + 1e-6
    assert inverse_residual(matrix[0], converged_inverse(matrix[:1], bound / 16)[0]) > 10 * inverse_residual(
        matrix[0], found[0]
    )


def test_a_graph_has_cholesky_by_products_and_only_with_a_bound() -> None:
    class Inverting(nn.Module):
        def __init__(self, condition: float) -> None:
            super().__init__()
            self.condition = condition

        def forward(self, matrix: Tensor) -> Tensor:
            return symmetric_inverse(matrix, "cholesky", condition=self.condition)

    matrix = conditioned(40.0)[None].float().repeat(2, 1, 1)
    program = torch.export.export(Inverting(40.0 * float(matrix.abs().sum(dim=-1).max())), (matrix,))
    assert "cholesky" not in str(program.graph)
    torch.testing.assert_close(program.module()(matrix), symmetric_inverse(matrix, "cholesky"), rtol=1e-4, atol=1e-3)
    assert "cholesky" in str(torch.export.export(Inverting(float("inf")), (matrix,)).graph)


def test_newton_to_a_tolerance_stops_each_matrix_alone() -> None:
    easy, hard = conditioned(3.0), conditioned(1e3, seed=1)
    both = symmetric_inverse(torch.stack([easy, hard]), "newton_tolerance", tolerance=1e-8)
    for alone, found in zip((easy, hard), both, strict=True):
        assert inverse_residual(alone, found) <= 1e-8
        # Closer than one further step would bring it; not bit for bit, since a batch may be multiplied otherwise.
        expected = symmetric_inverse(alone[None], "newton_tolerance", tolerance=1e-8)[0]
        torch.testing.assert_close(expected, found, rtol=1e-11, atol=1e-11 * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["cholesky", "newton_tolerance"])
def test_the_closed_form_gradient_is_that_of_the_inverse(method: str) -> None:
    weight = torch.randn(SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = []
    for inverse in (lambda m: symmetric_inverse(m, method, tolerance=1e-12), torch.linalg.inv):  # type: ignore[arg-type]
        matrix = conditioned(50.0).requires_grad_()
        (inverse(matrix) * weight).sum().backward()
        gradients.append(matrix.grad)
    assert relative(gradients[0], gradients[1]) < 1e-9


def test_newton_s_own_gradient_and_the_closed_form_meet_where_it_has_converged() -> None:
    weight = torch.randn(SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradients(condition: float, steps: int) -> list[Tensor]:
        found = []
        for closed in (False, True):
            matrix = conditioned(condition).requires_grad_()
            inverse = symmetric_inverse(matrix, "newton", steps=steps, closed_form_gradient=closed)
            (inverse * weight).sum().backward()
            assert matrix.grad is not None
            found.append(matrix.grad)
        return found

    converged, unconverged = gradients(1e2, 60), gradients(1e5, 20)
    assert relative(converged[1], converged[0]) < 1e-7
    assert relative(unconverged[1], unconverged[0]) > 0.1
