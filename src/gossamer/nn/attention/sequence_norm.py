"""Sequence-normalization attention (arXiv 2406.01314): linear in the tokens, without a softmax.

Queries, keys and values are each normalized over the tokens, per head and channel, with a learnable affine::

    t_hat = gamma (t - mean_tokens(t)) / sqrt(var_tokens(t) + eps) + beta
    out   = concat_h(Q_hat_h (K_hat_h^T V_hat_h / N)) W_O + b_O

Without a softmax between the products, one function has several orders of evaluation, chosen by their work:

- ``quadratic``, as the definition is written, for fewer tokens than a head is wide;
- ``folded``: projections of centred tokens, ``K^T V``, and all scales folded into its d x d matrices;
- ``gram``: normalization is affine in the projections and those are affine in X, so the layer is ``(X - mean) A + c``
  with one C x C matrix that depends on the image only through mean and covariance of its tokens. Queries, keys and
  values are never formed.

The paper leaves points open (biased variance, eps, statistics of each image by itself);
``docs/decisions/0003-sequence-norm-open-points.md`` decides them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require_positive
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention.base import (
    Attention,
    AttentionConfig,
    Grid,
    Host,
    MechanismNote,
    split_heads,
    with_zero_gradient,
    zero_padding,
)
from gossamer.nn.cost import Cost
from gossamer.nn.moments import CHUNK, TokenMoments, apply_affine_map, token_moments
from gossamer.nn.precision import widen, working_dtype

EvaluationOrder = Literal["quadratic", "folded", "gram"]
SQUARED_ROWS = 128


@dataclass(frozen=True)
class SequenceNormConfig(AttentionConfig):
    """Parameters of sequence normalization.

    Attributes:
        eps: Number above 0 that is added to the variance, inside the square root.
        center: Whether the mean over the tokens is subtracted; otherwise tokens are divided by their root mean square.
        evaluation: Order of evaluation; ``auto`` takes the one of least work for the grid. Weights are the same.

    Raises:
        GossamerError: ``E-CONFIG`` when eps is not positive, ``E-UNSUPPORTED`` for ``gram`` without centering.
    """

    eps: float = 1e-5
    center: bool = True
    evaluation: Literal["auto", "quadratic", "folded", "gram"] = "auto"
    name: ClassVar[str] = "sequence_norm"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="arXiv 2406.01314",
        equation="Q̂ (K̂ᵀ V̂ / N), where t̂ = γ (t − mean over tokens) / √(variance over tokens + ε) + β",
        cost="4 N C² + 2 N C d folded; 2 N C² + 4 C³ + 2 C² d from the Gram matrix; the smaller is taken",
        use=(
            "The default. From a thousand tokens on it is by far the fastest mechanism here, and the only one whose "
            "extra memory is that of its output. Entries of its matrix are signed and rows do not sum to one: they "
            "are not probabilities."
        ),
        departures=(
            "The paper leaves open the variance, eps, the place of 1/N and masks; [decision "
            "3](decisions/0003-sequence-norm-open-points.md) states the choices. The evaluation from the Gram matrix "
            "is our own."
        ),
    )

    def __post_init__(self) -> None:
        require_positive(self, "eps")
        if self.evaluation == "gram" and not self.center:
            problem = "the gram evaluation centres the tokens"
            raise GossamerError(ErrorCode.UNSUPPORTED, "sequence_norm", problem, "use evaluation folded, or center")

    def make(self, host: Host) -> SequenceNormAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return SequenceNormAttention(self, host)


class SequenceNormAttention(Attention):
    """``Q_hat (K_hat^T V_hat / N)`` for each head, all three normalized over the tokens."""

    def __init__(self, config: SequenceNormConfig, host: Host) -> None:
        super().__init__(host)
        self.config = config
        self.qkv = nn.Linear(host.dim, 3 * host.dim, bias=host.qkv_bias)
        # Rows are queries, keys, values.
        self.gamma = nn.Parameter(torch.ones(3, host.dim))
        self.beta = nn.Parameter(torch.zeros(3, host.dim))
        self._pinned: EvaluationOrder | None = None

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, in time and memory linear in their number."""
        self.check_grid(tokens, grid)
        order = self.order_for(grid)
        if order == "gram":
            return self._gram(tokens, token_mask)
        if order == "folded":
            return self._folded(tokens, token_mask)
        matrix, values = self.dense_form(tokens, grid, token_mask)
        with torch.autocast(tokens.device.type, enabled=False):
            heads = matrix @ values
        return self.project(heads.to(tokens.dtype))

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``Q_hat K_hat^T / N``, whose entries are signed, and ``V_hat``; both zero for padding."""
        self.check_grid(tokens, grid)
        projected = self.qkv(zero_padding(tokens, token_mask))
        with torch.autocast(tokens.device.type, enabled=False):
            projected = widen(projected)
            count = _count_tokens(projected, token_mask)[:, None, None]
            if self.config.center:
                projected = projected - zero_padding(projected, token_mask).sum(dim=1, keepdim=True) / count
            power = zero_padding(projected, token_mask).square().sum(dim=1, keepdim=True) / count
            gamma, beta = (parameter.to(projected.dtype).flatten() for parameter in (self.gamma, self.beta))
            normalized = projected * (gamma * torch.rsqrt(power + self.config.eps)) + beta
            queries, keys, values = split_heads(zero_padding(normalized, token_mask), 3, self.num_heads)
            return queries @ (keys / count[..., None]).transpose(-2, -1), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of the order of evaluation that the grid gets."""
        n, c = self.num_tokens(grid), self.dim
        order = self.order_for(grid)
        largest = {
            "quadratic": max(3 * n * c, self.num_heads * n * n),
            "folded": 3 * n * c,
            "gram": max(n * c, 3 * c * c),
        }
        return Cost(macs=self._macs(order, n), largest_intermediate=largest[order])

    def pin(self, grid: Grid) -> None:
        """Fix the order of evaluation to the one for ``grid``."""
        self._pinned = None
        self._pinned = self.order_for(grid)

    def order_for(self, grid: Grid) -> EvaluationOrder:
        """Return the order of evaluation for a grid: the pinned or forced one, or that of least work."""
        if self._pinned is not None:
            return self._pinned
        if self.config.evaluation != "auto":
            return self.config.evaluation
        n = self.num_tokens(grid)
        orders: tuple[EvaluationOrder, ...] = (
            get_args(EvaluationOrder) if self.config.center else ("quadratic", "folded")
        )
        return min(orders, key=lambda order: self._macs(order, n))

    def affine_form(
        self, moments: TokenMoments
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim dim"], Float[Tensor, "batch dim"]]:
        """Return mean, A and c of ``out = (X - mean) A + c`` for images with these moments.

        Raises:
            GossamerError: ``E-UNSUPPORTED`` without centering.
        """
        if not self.config.center:
            problem = "the gram evaluation centres the tokens"
            raise GossamerError(ErrorCode.UNSUPPORTED, "sequence_norm", problem, "use center")
        weight, projection = self.qkv.weight, self.output.weight
        working = working_dtype(weight)
        with torch.autocast(weight.device.type, enabled=False):
            mean, covariance = moments.finish()
            weight, projection = weight.to(working), projection.to(working)
            # Weights get a batch axis, since a matrix times a batch of matrices would be transposed and copied.
            spread = weight[None] @ covariance.to(working)
            variance = (spread * weight).sum(dim=-1).clamp(min=0.0)
            gamma, beta = (parameter.to(working).flatten() for parameter in (self.gamma, self.beta))
            scale = self._per_head(gamma * torch.rsqrt(variance + self.config.eps))
            heads_of_values = weight.unflatten(0, (3, self.num_heads, -1))[2]
            product = spread.unflatten(1, (3, self.num_heads, -1))[:, 1] @ heads_of_values.transpose(-2, -1)
            shift = self._per_head(beta[None])
            # K_hat^T V_hat / N from the covariance of raw keys and values.
            moment = scale[:, 1, :, :, None] * product * scale[:, 2, :, None, :]
            moment = moment + shift[:, 1, :, :, None] * shift[:, 2, :, None, :]
            mixed = moment @ projection.t().unflatten(0, (self.num_heads, -1))
            scaled = (scale[:, 0, :, :, None] * mixed).flatten(1, 2)
            matrix = weight[: self.dim].t()[None] @ scaled
            offset = (beta[: self.dim][None, None] @ mixed.flatten(1, 2))[:, 0] + self.output.bias.to(working)
            offset = with_zero_gradient(offset, self.qkv.bias)
        return mean, matrix, offset

    def _gram(self, tokens: Tensor, token_mask: Tensor | None) -> Tensor:
        mean, matrix, offset = self.affine_form(token_moments(tokens, token_mask))
        return self._finish(apply_affine_map(zero_padding(tokens, token_mask), mean, matrix, offset), token_mask)

    def _folded(self, tokens: Tensor, token_mask: Tensor | None) -> Tensor:
        dtype, working, center = tokens.dtype, working_dtype(tokens), self.config.center
        tokens = widen(zero_padding(tokens, token_mask))
        count = tokens.shape[1] if token_mask is None else _count_tokens(tokens, token_mask)[:, None, None]
        if center:
            # The projections of centred tokens are centred, so bias and mean cancel.
            tokens = zero_padding(tokens - tokens.sum(dim=1, keepdim=True) / count, token_mask)
        bias = None if center else self.qkv.bias
        projected = zero_padding(F.linear(tokens.to(dtype), self.qkv.weight, bias), token_mask)
        del tokens
        with torch.autocast(projected.device.type, enabled=False):
            projected = projected.to(working)
            power = _sum_of_squares(projected) + self.config.eps * count
            # Scales over sqrt(N), as columns; the product of those of keys and values is that of K^T V / N.
            scale = (self.gamma.to(working).flatten() * torch.rsqrt(power)).unflatten(2, (3, self.num_heads, -1, 1))
            of_queries, of_keys, of_values = scale[:, 0].unbind(1)
            beta = self.beta.to(working).unflatten(1, (self.num_heads, 1, -1)).unbind(0)
            queries, keys, values = split_heads(projected, 3, self.num_heads)
            moment = of_keys * (keys.transpose(-2, -1) @ values) * of_values.transpose(-2, -1)
            moment = moment + beta[1].transpose(-2, -1) * beta[2]
            root = count[..., None].sqrt() if isinstance(count, Tensor) else count**0.5
            if not center:
                mean_keys = of_keys * keys.sum(dim=2)[..., None] / root
                mean_values = of_values * values.sum(dim=2)[..., None] / root
                moment = moment + beta[1].transpose(-2, -1) * mean_values.transpose(-2, -1) + mean_keys * beta[2]
            factors = (beta[0] @ moment, queries, of_queries * root * moment)
            heads = torch.baddbmm(*(factor.flatten(0, 1) for factor in factors)).unflatten(0, (-1, self.num_heads))
        out = self.output(heads.transpose(1, 2).flatten(2).to(dtype))
        return self._finish(with_zero_gradient(out, self.qkv.bias) if center else out, token_mask)

    def _finish(self, out: Tensor, token_mask: Tensor | None) -> Tensor:
        """Return the output after dropout; rows of padding are the output's bias, as the projection of zeros."""
        if token_mask is not None:
            out = torch.where(token_mask[..., None], out, self.output.bias.to(out.dtype))
        return self.dropout(out)

    def _per_head(self, channels: Tensor) -> Tensor:
        """Return (batch, 3 C) as (batch, 3, heads, head_dim)."""
        return channels.unflatten(1, (3, self.num_heads, -1))

    def _macs(self, order: EvaluationOrder, n: int) -> int:
        c, d = self.dim, self.head_dim
        if order == "quadratic":
            return 4 * n * c * c + 2 * n * n * c
        if order == "folded":
            return 4 * n * c * c + 2 * n * c * d + c * d
        chunks = -(-n // CHUNK)
        merging = (2 * chunks if chunks > 1 else 1) * c * c
        return 2 * n * c * c + merging + 4 * c**3 + 2 * c * c * d + 2 * c * c


def _sum_of_squares(projected: Tensor) -> Tensor:
    """Return the sum of squares over the tokens; without gradients a few rows at a time, which stay in a cache."""
    if torch.is_grad_enabled() or torch.compiler.is_exporting():
        return (projected * projected).sum(dim=1, keepdim=True)
    total = projected.new_zeros(projected.shape[0], 1, projected.shape[2])
    squares = projected.new_empty(projected.shape[0], min(SQUARED_ROWS, projected.shape[1]), projected.shape[2])
    for rows in projected.split(SQUARED_ROWS, dim=1):
        total += torch.mul(rows, rows, out=squares[:, : rows.shape[1]]).sum(dim=1, keepdim=True)
    return total


def _count_tokens(tokens: Tensor, token_mask: Tensor | None) -> Tensor:
    """Return the number of real tokens of each sample, at least one so that it can be divided by."""
    if token_mask is None:
        return torch.ones(tokens.shape[0], dtype=tokens.dtype, device=tokens.device) * tokens.shape[1]
    return token_mask.sum(dim=1).clamp(min=1).to(tokens.dtype)
