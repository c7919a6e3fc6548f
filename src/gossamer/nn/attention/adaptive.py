"""APFormer's attention (Lin et al., arXiv 2206.14413): Gaussian positions, pruning, a self-supervised prior.

::

    S = Q K^T / sqrt(d) + T[dy, dx] + 0.01 exp(-delta / (2 sigma_h^2 + 1e-6))     delta = (dy/R)^2 + (dx/C)^2
    t = sigmoid(w . q) sigmoid(level) ;  keep S_ij > max_j S + log(t + (1 - t) exp(min_j S - max_j S))
    out = concat_h(softmax over kept(S) V) W_O + b_O

Query pruning drops tokens that a network selects; it gathers before the projections, so it skips their work. Dependency
pruning drops entries below a learned threshold; it masks, and saves no work by itself. As published its gate gets no
gradient: ``faithful`` keeps that for comparison, ``straight_through`` learns. ``docs/decisions/0010-adaptive.md`` lists
the departures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.checks import require, require_at_least, require_positive
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention.base import (
    Attention,
    AttentionConfig,
    Grid,
    Host,
    MechanismNote,
    refuse_mask,
    with_zero_gradient,
)
from gossamer.nn.cost import Cost, linear_cost
from gossamer.nn.gather import find_kept_rows, gather_rows, scatter_rows
from gossamer.nn.precision import widen
from gossamer.nn.relative_position import gathered_bias, pairwise_bias, position_table

QUERY_ROWS = 64
"""Number of rows of the matrix that are formed at a time without gradients."""
LARGEST_CACHE_BYTES = 2**30
"""Largest bias of positions that is kept between calls; a larger one is computed anew each time."""


@dataclass(frozen=True)
class AdaptiveConfig(AttentionConfig):
    """Parameters of adaptive attention.

    Attributes:
        head_dim: Width of a head, 1 or more (default: ``dim / num_heads``). APFormer has 128 for a dim of 128.
        relative_position: Whether learned offsets and the Gaussian (GRPE) are added.
        gate: Gate of dependency pruning: ``none`` keeps all entries; ``straight_through`` learns a threshold;
            ``faithful`` is as published, where the gate has no gradient.
        temperature: Temperature, above 0, of the sigmoid whose gradient replaces that of the threshold.
        budget: Fraction of entries that should be kept, in [0, 1].
        budget_weight: Weight of ``(kept - budget)^2`` in the loss, 0 or more; 0 for no budget.
        prior_weight: Weight of the self-supervised prior (SSA) in the loss, 0 or more; 0 for none.
        break_even: Fraction of the dense work, in [0, 1], below which pruned tokens are gathered; above it they are
            masked, since gathering has a cost too.

    Raises:
        GossamerError: ``E-CONFIG``, for a number out of range.
    """

    head_dim: int | None = None
    relative_position: bool = True
    gate: Literal["none", "straight_through", "faithful"] = "straight_through"
    temperature: float = 1.0
    budget: float = 0.5
    budget_weight: float = 0.1
    prior_weight: float = 0.1
    break_even: float = 0.8
    name: ClassVar[str] = "adaptive"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Lin et al., arXiv 2206.14413",
        equation="softmax over kept entries of (Q Kᵀ / √d + T[dy, dx] + 0.01 exp(−δ / 2σ²)) V",
        cost="4 N C² + 2 N² C + N C for the gate; with n queries and m keys kept: n C² + 2 m C² + 2 n m C + n C²",
        use=(
            "When a network can tell which tokens are background: dropped queries and keys are skipped, not masked. "
            "Without pruning it costs more than softmax."
        ),
        departures=(
            "The published gate gets no gradient; here it learns under a budget. Rows of dropped queries are zero in "
            "training too. See [decision 10](decisions/0010-adaptive.md)."
        ),
    )

    def __post_init__(self) -> None:
        require_at_least(self, 1, "head_dim")
        require_positive(self, "temperature")
        for name in ("budget", "break_even"):
            share = getattr(self, name)
            require(0 <= share <= 1, name, f"{share} is not in [0, 1]", "use a fraction, such as 0.5")
        require_at_least(self, 0, "budget_weight", "prior_weight")

    @property
    def own_head_dim(self) -> int | None:
        """Width of a head that does not depend on the width of a token."""
        return self.head_dim

    @property
    def surrogate_gradient(self) -> str | None:
        """Reason why gradients are not those of the function: the threshold of dependency pruning is a step."""
        if self.gate == "none":
            return None
        return "the threshold of dependency pruning is a step, whose gradient is replaced by that of a sigmoid"

    @property
    def fixed_graph_grid(self) -> str | None:
        """Reason why an exported graph takes one grid only."""
        return (
            "positions are a table over the grid, which a graph holds as a constant" if self.relative_position else None
        )

    def make(self, host: Host) -> AdaptiveAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return AdaptiveAttention(self, host)


class AdaptiveAttention(Attention):
    """Softmax attention with relative positions that can drop queries, keys and weak dependencies.

    A network that trains in stages sets ``pruning`` to False while every dependency must be kept.
    """

    def __init__(self, config: AdaptiveConfig, host: Host) -> None:
        super().__init__(host)
        if len(host.grid) != 2:
            problem = f"relative positions need a grid of 2 axes, not {len(host.grid)}"
            raise GossamerError(ErrorCode.UNSUPPORTED, "adaptive", problem, "use images")
        self.config = config
        self.inner = self.head_dim * self.num_heads
        self.query = nn.Linear(host.dim, self.inner, bias=host.qkv_bias)
        self.key_value = nn.Linear(host.dim, 2 * self.inner, bias=host.qkv_bias)
        self.output = nn.Linear(self.inner, host.dim)
        if config.relative_position:
            rows, columns = host.grid
            self.offsets = nn.Parameter(torch.zeros(self.num_heads, 2 * rows - 1, 2 * columns - 1))
            self.widths = nn.Parameter(0.1 * torch.arange(1, self.num_heads + 1))
        if config.gate != "none":
            # Plain parameters, to which a network's weight decay is not applied.
            bound = self.head_dim**-0.5
            self.gate = nn.Parameter(torch.empty(self.head_dim).uniform_(-bound, bound))
            self.gate_level = nn.Parameter(torch.tensor(-2.0))
        self.pruning = config.gate != "none"
        self._bias_cache: tuple[object, object, Tensor] | None = None

    def forward(
        self,
        tokens: Tensor,
        grid: Grid,
        token_mask: Tensor | None = None,
        *,
        kept_queries: Bool[Tensor, "batch tokens"] | None = None,
        kept_keys: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Tensor:
        """Return the attended tokens; rows of dropped queries are exactly zero, in training too.

        Args:
            tokens: Tokens (batch, tokens, dim).
            grid: Number of tokens along each axis.
            token_mask: Refused, since positions belong to the whole grid.
            kept_queries: True for tokens that are queries (default: all). Prefix tokens always are.
            kept_keys: True for tokens that are keys (default: all). Prefix tokens always are.

        Raises:
            GossamerError: ``E-UNSUPPORTED`` for a token mask.
            ValueError: A sample has no key.
        """
        self.check_grid(tokens, grid)
        refuse_mask("adaptive", token_mask)
        queries, keys = self._with_prefix(kept_queries), self._with_prefix(kept_keys)
        if torch.compiler.is_exporting() or (queries is None and keys is None):
            return self._masked(tokens, grid, queries, keys)  # a graph cannot follow how many are kept
        if keys is not None and not bool(keys.any(dim=1).all()):
            raise ValueError("a sample has no key; keep at least one")
        if queries is not None and not bool(queries.any()):
            return torch.zeros_like(tokens)
        count = tokens.shape[1]
        every = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        query_rows, real_queries = find_kept_rows(every if queries is None else queries)
        key_rows, real_keys = find_kept_rows(every if keys is None else keys)
        if not self.pays(grid, query_rows.shape[1], key_rows.shape[1]):
            return self._masked(tokens, grid, queries, keys)
        bias = self._gathered_bias(grid, query_rows, key_rows)
        asking = tokens if queries is None else gather_rows(tokens, query_rows)
        answering = tokens if keys is None else gather_rows(tokens, key_rows)
        mask = None if bool(real_keys.all()) else real_keys
        out = self.dropout(self.output(self._attend(asking, answering, bias, mask)))
        return out if queries is None else scatter_rows(out, query_rows, real_queries, count)

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the matrix after dependency pruning, by its threshold on probabilities, and V."""
        self.check_grid(tokens, grid)
        refuse_mask("adaptive", token_mask)
        queries, keys, values = self._projected(tokens, tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            logits = widen(queries) @ widen(keys).transpose(-2, -1) * self.head_dim**-0.5
            bias = self._bias(grid)
            logits = logits if bias is None else logits + bias
            matrix = torch.softmax(logits, dim=-1)
            if not self.pruning:
                return matrix, values
            low, top = matrix.amin(dim=-1, keepdim=True), matrix.amax(dim=-1, keepdim=True)
            threshold = low + self._threshold(queries) * (top - low)
            kept = matrix > threshold
            if self.config.gate == "straight_through":
                kept = kept | (logits >= tie_threshold(logits.amax(dim=-1, keepdim=True)))
            pruned = matrix * kept
            epsilon = 1e-6 if self.config.gate == "faithful" else 0.0
            return pruned / (pruned.sum(dim=-1, keepdim=True) + epsilon), values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost with nothing pruned."""
        count = self.num_tokens(grid)
        return self.executed_cost(count, count)

    def executed_cost(self, queries: int, keys: int) -> Cost:
        """Return the cost for these numbers of gathered queries and keys."""
        inner = self.inner
        macs = 2 * queries * keys * inner + (queries * inner if self.config.gate != "none" else 0)
        size = self.num_heads * queries * keys
        return (
            linear_cost(queries, self.dim, inner)
            + linear_cost(keys, self.dim, 2 * inner)
            + Cost(macs=macs, exponentials=size, largest_intermediate=size)
            + linear_cost(queries, inner, self.dim)
        )

    def pays(self, grid: Grid, queries: int, keys: int) -> bool:
        """Return whether gathering these numbers of queries and keys is worth its own cost."""
        return self.executed_cost(queries, keys).macs < self.config.break_even * self.cost(grid).macs

    def auxiliary_loss(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor | None:
        """Return the weighted prior and the budget of dependency pruning, both without prefix tokens."""
        refuse_mask("adaptive", token_mask)
        budgeted = self.pruning and self.config.gate == "straight_through" and self.config.budget_weight > 0
        if not (budgeted or self.config.prior_weight > 0):
            return None
        queries, keys, _ = self._projected(tokens, tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            queries, keys = (widen(part)[:, :, self.num_prefix_tokens :] for part in (queries, keys))
            logits = queries @ keys.transpose(-2, -1) * self.head_dim**-0.5
            loss = logits.new_zeros(())
            if self.config.prior_weight > 0:
                loss = loss + self.config.prior_weight * self_supervised_prior(torch.softmax(logits, dim=-1))
            if budgeted:
                bias = self._bias(grid)
                if bias is not None:
                    logits = logits + bias[:, self.num_prefix_tokens :, self.num_prefix_tokens :]
                kept = self._gate(queries, logits).mean()
                loss = loss + self.config.budget_weight * (kept - self.config.budget).square()
        return loss

    def _projected(self, asking: Tensor, answering: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries = self.query(asking).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        keys, values = self.key_value(answering).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return queries, keys, values

    def _masked(self, tokens: Tensor, grid: Grid, queries: Tensor | None, keys: Tensor | None) -> Tensor:
        out = self.dropout(self.output(self._attend(tokens, tokens, self._bias(grid), keys)))
        return out if queries is None else out.masked_fill(~queries[..., None], 0.0)

    def _attend(self, asking: Tensor, answering: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return the concatenated heads, before the output projection."""
        queries, keys, values = self._projected(asking, answering)
        if not self.pruning:
            added = None if bias is None else bias.to(queries.dtype)
            if mask is not None:
                far = torch.zeros(mask.shape, dtype=queries.dtype, device=mask.device)
                far = far.masked_fill(~mask, float("-inf"))[:, None, None]
                added = far if added is None else added + far
            heads = F.scaled_dot_product_attention(queries, keys, values, attn_mask=added)
            gates = () if self.config.gate == "none" else (self.gate, self.gate_level)
            return with_zero_gradient(heads.transpose(1, 2).flatten(2), *gates)
        mask = None if mask is None else mask[:, None, None]
        with torch.autocast(asking.device.type, enabled=False):
            queries, keys, values = widen(queries), widen(keys), widen(values)
            if torch.is_grad_enabled() or torch.compiler.is_exporting():
                logits = queries @ keys.transpose(-2, -1) * self.head_dim**-0.5
                heads = self._pruned(queries, logits if bias is None else logits + bias, mask) @ values
            else:
                heads = torch.empty_like(queries)
                for start in range(0, queries.shape[2], QUERY_ROWS):
                    rows = slice(start, start + QUERY_ROWS)
                    added = None if bias is None else bias[..., rows, :]
                    heads[:, :, rows] = self._pruned_rows(queries[:, :, rows], keys, added, mask) @ values
        return heads.transpose(1, 2).flatten(2).to(asking.dtype)

    def _pruned_rows(self, queries: Tensor, keys: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return rows of the pruned matrix without gradients, in place and in little memory."""
        logits = (queries * self.head_dim**-0.5) @ keys.transpose(-2, -1)
        if bias is not None:
            logits += bias
        level, top = self._level(queries, logits, mask)
        if mask is not None:
            logits.masked_fill_(~mask, float("-inf"))
        if self.config.gate == "faithful":
            matrix = torch.softmax(logits, dim=-1).masked_fill_(logits <= level, 0.0)
            return matrix / (matrix.sum(dim=-1, keepdim=True) + 1e-6)
        dropped = (logits <= level).logical_and_(logits < tie_threshold(top))
        return torch.softmax(logits.masked_fill_(dropped, float("-inf")), dim=-1)

    def _pruned(self, queries: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Return the softmax over the kept entries of each row."""
        gate = self._gate(queries, logits, mask)
        if mask is not None:
            logits = logits.masked_fill(~mask, float("-inf"))
        matrix = torch.softmax(logits, dim=-1) * gate
        epsilon = 1e-6 if self.config.gate == "faithful" else 0.0
        return matrix / (matrix.sum(dim=-1, keepdim=True) + epsilon)

    def _gate(self, queries: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return 1 for kept entries and 0 for the others, with the gradient of the configured gate."""
        level, top = self._level(queries, logits, mask)
        margin = logits - level
        if self.config.gate == "faithful":
            return with_zero_gradient((margin > 0).to(logits.dtype).detach(), self.gate, self.gate_level)
        # The maximum of a row is always kept, so that no row is empty.
        hard = ((margin > 0) | (logits >= tie_threshold(top))).to(logits.dtype)
        soft = torch.sigmoid(margin / self.config.temperature)
        return hard.detach() + soft - soft.detach()

    def _level(self, queries: Tensor, logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the logit above which an entry of a row is kept, and the largest logit of the row."""
        low = (logits if mask is None else logits.masked_fill(~mask, float("inf"))).amin(dim=-1, keepdim=True)
        top = (logits if mask is None else logits.masked_fill(~mask, float("-inf"))).amax(dim=-1, keepdim=True)
        threshold = self._threshold(queries)
        return top + torch.log(threshold + (1.0 - threshold) * torch.exp(low - top)), top

    def _threshold(self, queries: Tensor) -> Tensor:
        """Return t, the position of each query's threshold between the smallest and the largest weight of its row."""
        gate, level = widen(self.gate), widen(self.gate_level)
        return torch.sigmoid(widen(queries) @ gate[:, None]) * torch.sigmoid(level)

    def _with_prefix(self, kept: Tensor | None) -> Tensor | None:
        """Return the mask with prefix tokens kept, or None if all tokens are kept."""
        if kept is None or (not torch.compiler.is_exporting() and bool(kept.all())):
            return None
        if not self.num_prefix_tokens:
            return kept
        return torch.cat([torch.ones_like(kept[:, : self.num_prefix_tokens]), kept[:, self.num_prefix_tokens :]], dim=1)

    def _bias(self, grid: Grid) -> Float[Tensor, "heads tokens tokens"] | None:
        """Return the bias of every pair of tokens, zero for prefix tokens. Without gradients it is cached."""
        if not self.config.relative_position:
            return None
        if torch.compiler.is_exporting() or torch.is_grad_enabled():
            return self._new_bias(grid)
        if self.offsets.is_inference() or self.widths.is_inference():
            return self._new_bias(grid)  # such tensors do not count their changes
        sources = (self.offsets.data, self.widths.data)
        key = (grid, self.offsets._version, self.widths._version, *(source.data_ptr() for source in sources))
        if self._bias_cache is not None and self._bias_cache[0] == key:
            return self._bias_cache[2]
        bias = self._new_bias(grid)
        fits = bias.numel() * bias.element_size() <= LARGEST_CACHE_BYTES
        # The sources are kept with it, so that no later tensor can have the address of one that was freed.
        self._bias_cache = (key, sources, bias) if fits else None
        return bias

    def _new_bias(self, grid: Grid) -> Tensor:
        return pairwise_bias(position_table(self.offsets, self.widths, grid), grid, self.num_prefix_tokens)

    def _gathered_bias(self, grid: Grid, query_rows: Tensor, key_rows: Tensor) -> Tensor | None:
        """Return the bias (batch, heads, queries, keys) of the gathered tokens alone."""
        if not self.config.relative_position:
            return None
        table = position_table(self.offsets, self.widths, grid)
        return gathered_bias(table, grid, query_rows, key_rows, self.num_prefix_tokens)


def tie_threshold(top: Tensor) -> Tensor:
    """Return the logit from which an entry equals the largest of its row up to rounding."""
    return top - 16 * torch.finfo(top.dtype).eps * (1 + top.abs())


def self_supervised_prior(matrix: Float[Tensor, "batch heads tokens tokens"]) -> Float[Tensor, ""]:
    """Return APFormer's prior (SSA), which favours nearly symmetric matrices with at least one sharp row.

    ``0.8 max(SmoothL1(n A, n A^T), 0.1) + 0.2 mean(10 max(min_i e_i - 0.9, 0))`` with e_i the entropy of row i over
    its largest possible value; 0.28 for a uniform matrix, 0.08 for the identity.
    """
    count = matrix.shape[-1]
    matrix = widen(matrix)
    symmetry = F.smooth_l1_loss(count * matrix, count * matrix.transpose(-2, -1)).clamp(min=0.1)
    # The logarithm of a clamped weight: that of a zero would have the gradient NaN.
    logarithm = matrix.clamp(min=torch.finfo(matrix.dtype).tiny).log()
    entropy = -(matrix * logarithm).sum(dim=-1) / math.log(max(count, 2))
    flatness = 10.0 * (entropy.amin(dim=-1) - 0.9).clamp(min=0.0)
    return 0.8 * symmetry + 0.2 * flatness.mean()
