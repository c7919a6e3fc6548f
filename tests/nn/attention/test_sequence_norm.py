"""The numbered invariants of sequence normalization (see the module's docstring for the equations)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.api.attention_checks import check_token_mask
from gossamer.api.attention_samples import CheckSize
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import SequenceNormConfig
from gossamer.nn.attention.sequence_norm import SequenceNormAttention

DIM, HEADS, COUNT = 12, 3, 23
GRID = (1, COUNT)


def build(*, random_affine: bool = True, **options: object) -> SequenceNormAttention:
    torch.manual_seed(3)
    attention = SequenceNormConfig(**options).build(DIM, HEADS, grid=GRID).double().eval()  # type: ignore[arg-type]
    if random_affine:
        with torch.no_grad():
            attention.gamma.normal_()
            attention.beta.normal_()
    assert isinstance(attention, SequenceNormAttention)
    return attention


def tokens(count: int = COUNT, batch: int = 2) -> Tensor:
    return torch.randn(batch, count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_closed_form_of_the_moment_matrix() -> None:
    """Y = Q_hat (diag(gamma_K) R diag(gamma_V) + beta_K beta_V^T), R the correlations of keys and values."""
    attention = build(eps=1e-12)
    x = tokens()
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    heads = [part.view(2, COUNT, HEADS, -1).transpose(1, 2) for part in (q, k, v)]
    normal = [(t - t.mean(2, keepdim=True)) / t.std(2, keepdim=True, correction=0) for t in heads]
    gamma, beta = (p.view(3, 1, HEADS, 1, -1) for p in (attention.gamma, attention.beta))
    correlation = normal[1].transpose(-2, -1) @ normal[2] / COUNT
    assert correlation.abs().max() <= 1 + 1e-12
    moment = gamma[1].transpose(-2, -1) * correlation * gamma[2] + beta[1].transpose(-2, -1) * beta[2]
    wanted = attention.project((gamma[0] * normal[0] + beta[0]) @ moment)
    torch.testing.assert_close(attention(x, GRID), wanted, rtol=1e-8, atol=1e-10)


def test_equals_instance_norm() -> None:
    attention = build()
    x = tokens()
    norm = torch.nn.InstanceNorm1d(3 * DIM, eps=1e-5, affine=True).double()
    with torch.no_grad():
        norm.weight.copy_(attention.gamma.flatten())
        norm.bias.copy_(attention.beta.flatten())
    q, k, v = norm(attention.qkv(x).transpose(1, 2)).transpose(1, 2).view(2, COUNT, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(attention(x, GRID), attention.project(q @ (k.transpose(-2, -1) @ v) / COUNT))


def test_permutation_of_tokens_permutes_the_result() -> None:
    attention = build()
    x, order = tokens(), torch.randperm(COUNT, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(attention(x[:, order], GRID), attention(x, GRID)[:, order])


def test_biases_and_scales_of_the_projections_cancel() -> None:
    attention = build(eps=1e-12)
    x = tokens()
    before = attention(x, GRID)
    with torch.no_grad():
        attention.qkv.bias.add_(torch.randn(3 * DIM, dtype=torch.float64))
        attention.qkv.weight.mul_(torch.rand(3 * DIM, 1, dtype=torch.float64) + 0.5)
    torch.testing.assert_close(attention(x, GRID), before)
    attention(x, GRID).square().sum().backward()
    assert attention.qkv.bias.grad is not None
    assert attention.qkv.bias.grad.abs().max() < 1e-10


def test_without_centering_the_bias_matters() -> None:
    attention = build(center=False)
    x = tokens()
    before = attention(x, GRID)
    with torch.no_grad():
        attention.qkv.bias.add_(1.0)
    assert (attention(x, GRID) - before).abs().max() > 1e-3


def test_initial_affine_gives_a_token_mean_and_row_sums_of_zero() -> None:
    attention = build(random_affine=False)
    x = tokens()
    matrix, values = attention.dense_form(x, GRID)
    assert matrix.sum(dim=-1).abs().max() < 1e-12
    assert (matrix @ values).mean(dim=2).abs().max() < 1e-12


@pytest.mark.parametrize("count", [784, 12544])
def test_the_scale_of_the_output_does_not_decay_with_the_tokens(count: int) -> None:
    """Unlike SimA's, which falls as 1/N: 0.58 at 784 and 0.51 at 12,544 for correlation 0.5, head width 64."""
    attention = SequenceNormConfig(evaluation="folded", center=False).build(192, 3, grid=(1, count), qkv_bias=False)
    assert isinstance(attention, SequenceNormAttention)
    generator = torch.Generator().manual_seed(0)
    q, k, noise = torch.randn(3, 1, count, 64, generator=generator)
    v = 0.5 * k + 0.75**0.5 * noise
    with torch.no_grad():
        # The tokens hold q, k and v side by side, and the projections pick each for the first of three heads.
        attention.qkv.weight.zero_()
        for part in range(3):
            attention.qkv.weight[192 * part : 192 * part + 64, 64 * part : 64 * part + 64] = torch.eye(64)
        attention.output.weight.copy_(torch.eye(192))
        attention.output.bias.zero_()
        spread = float(attention(torch.cat([q, k, v], dim=-1), (1, count))[..., :64].std())
    assert spread == pytest.approx({784: 0.579, 12544: 0.506}[count], rel=0.05)


def test_one_token_and_constant_channels_stay_finite() -> None:
    attention = build()
    for x in (tokens(count=1), torch.ones(2, COUNT, DIM, dtype=torch.float64)):
        x.requires_grad_()
        out = attention(x, (1, x.shape[1]))
        out.sum().backward()
        assert torch.isfinite(out).all()
        assert torch.isfinite(x.grad).all()


def test_float16_autocast_stays_finite_at_65536_tokens() -> None:
    attention = SequenceNormConfig().build(8, 1, grid=(256, 256))
    x = torch.randn(1, 65_536, 8)
    with torch.autocast("cpu", torch.float16):
        assert torch.isfinite(attention(x, (256, 256))).all()


def test_work_grows_linearly() -> None:
    attention = build(evaluation="folded")
    small, large = (attention.cost((1, count)).macs for count in (COUNT, 4 * COUNT))
    assert large == pytest.approx(4 * small, rel=0.01)


def test_eps_must_be_positive() -> None:
    with pytest.raises(GossamerError) as caught:
        SequenceNormConfig(eps=0.0)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "eps")


def test_token_masks_are_taken() -> None:
    check_token_mask(SequenceNormConfig(), CheckSize(12, 3, (1, 11)))
