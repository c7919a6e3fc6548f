"""The base classes of attention mechanisms: ``AttentionConfig``, its parameters, and ``Attention``, its module.

All mechanisms are linear in their values::

    output = project(merge_heads(A(x) @ V(x)))

They differ in the matrix A, and in the order in which the product is evaluated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.extension import find_origin
from gossamer.nn.cost import Cost

Grid = tuple[int, ...]
FAR = -1e4
"""Replacement of a logit of minus infinity whose products stay finite, in half precision too."""


@dataclass(frozen=True)
class Host:
    """Values that a network chooses for its attention.

    Attributes:
        dim: Width of a token.
        num_heads: Number of heads, a divisor of ``dim`` unless ``own_head_dim`` is set.
        expected_grid: Number of tokens along each axis that the network is built for; None where nobody knows. Most
            mechanisms take any other grid too. Mechanisms read ``grid``, which raises where it is unknown.
        num_prefix_tokens: Number of tokens before those of the grid, such as a class token (default: 0).
        qkv_bias: Whether the projections of queries, keys and values have a bias (default: True).
        dropout: Probability of dropout after the output projection (default: 0).
        own_head_dim: Width of a head of the mechanism's choice (default: ``dim / num_heads``).

    Raises:
        GossamerError: ``E-CONFIG`` when the heads do not divide the width.
    """

    dim: int
    num_heads: int
    expected_grid: Grid | None
    num_prefix_tokens: int = 0
    qkv_bias: bool = True
    dropout: float = 0.0
    own_head_dim: int | None = None

    def __post_init__(self) -> None:
        if self.num_heads < 1 or (self.own_head_dim is None and self.dim % self.num_heads):
            problem = f"{self.num_heads} heads do not divide a width of {self.dim}"
            raise GossamerError(ErrorCode.CONFIG, "num_heads", problem, "choose a divisor of dim")

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.own_head_dim or self.dim // self.num_heads

    @property
    def grid(self) -> Grid:
        """Number of tokens along each axis that the network is built for.

        Raises:
            GossamerError: ``E-CONFIG``, where it is unknown.
        """
        if self.expected_grid is None:
            problem = "is not given, and this mechanism depends on the grid that it is built for"
            raise GossamerError(ErrorCode.CONFIG, "grid", problem, "give grid=(rows, columns)")
        return self.expected_grid


@dataclass(frozen=True)
class MechanismNote:
    """Description of a mechanism for ``docs/mechanisms.md``.

    Attributes:
        source: Publication.
        equation: Equation of one head.
        cost: Multiply-accumulates of N tokens of width C, with d the width of a head.
        use: Advice when to choose it.
        departures: Differences from the source, with their reasons.
    """

    source: str
    equation: str
    cost: str
    use: str
    departures: str


@dataclass(frozen=True)
class AttentionConfig(ABC):
    """Parameters that belong to one mechanism alone; values that a network chooses are given to ``build``.

    A mechanism is a frozen dataclass that inherits this class, with a ``name`` and ``make``. The name appears in
    tables, names of folders and bundles. ``note`` describes our own mechanisms.
    """

    name: ClassVar[str]
    note: ClassVar[MechanismNote | None] = None

    @classmethod
    def json_header(cls) -> dict[str, str]:
        """Return the keys by which JSON identifies the class: its name, or file and SHA-256 of a class of a user.

        Raises:
            GossamerError: ``E-UNSUPPORTED``, for a class of a user that no file of its own defines.
        """
        if cls.__module__.startswith("gossamer."):
            return {"name": cls.name}
        origin = find_origin(cls)
        return {"name": origin.reference, "sha256": origin.sha256}

    @property
    def own_head_dim(self) -> int | None:
        """Width of a head that does not depend on the width of a token; None for most mechanisms."""
        return None

    @property
    def surrogate_gradient(self) -> str | None:
        """Reason why gradients are on purpose not those of the function; None for most mechanisms."""
        return None

    @property
    def fixed_graph_grid(self) -> str | None:
        """Reason why an exported graph takes only the grid that it was traced with; None for most mechanisms."""
        return None

    def build(
        self,
        dim: int,
        num_heads: int,
        *,
        grid: Grid | None = None,
        num_prefix_tokens: int = 0,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> Attention:
        """Return the mechanism with fresh weights.

        Args:
            dim: Width of a token.
            num_heads: Number of heads, a divisor of ``dim`` unless the mechanism has ``own_head_dim``.
            grid: Number of tokens along each axis that the network is built for (default: unknown, which mechanisms
                that depend on it refuse).
            num_prefix_tokens: Number of tokens before those of the grid, such as a class token.
            qkv_bias: Whether the projections of queries, keys and values have a bias.
            dropout: Probability of dropout after the output projection.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED``, where the mechanism does not fit the network.
        """
        return self.make(Host(dim, num_heads, grid, num_prefix_tokens, qkv_bias, dropout, self.own_head_dim))

    @abstractmethod
    def make(self, host: Host) -> Attention:
        """Return the mechanism for a network with the choices of ``host``."""


class Attention(nn.Module, ABC):
    """An attention mechanism: a module from tokens to tokens of the same shape.

    Tokens are ``num_prefix_tokens`` prefix tokens, then those of ``grid`` in row-major order, so their number is
    ``num_prefix_tokens + prod(grid)``. ``token_mask`` is True for a real token. Real tokens get exactly the result of
    the sequence without padding; padded tokens get zeros before the output projection's bias. A mechanism that cannot
    guarantee this calls ``refuse_mask``.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.dim = host.dim
        self.num_heads = host.num_heads
        self.head_dim = host.head_dim
        self.num_prefix_tokens = host.num_prefix_tokens
        self.output = nn.Linear(host.dim, host.dim)
        self.dropout = nn.Dropout(host.dropout)

    @abstractmethod
    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: Grid,
        token_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the attended tokens, evaluated in the fastest order.

        Args:
            tokens: Tokens (batch, tokens, dim).
            grid: Number of tokens along each axis; it may differ from the grid that the mechanism is built for.
            token_mask: True for real tokens (default: all).
        """

    @abstractmethod
    def dense_form(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: Grid,
        token_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Float[Tensor, "batch heads tokens keys"], Float[Tensor, "batch heads keys head_dim"]]:
        """Return the matrix A and the values V of the definition, in work quadratic in the number of tokens."""

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Return the cost of ``forward`` for one image, from its equations."""

    def auxiliary_loss(
        self, tokens: Float[Tensor, "batch tokens dim"], grid: Grid, token_mask: Tensor | None = None
    ) -> Float[Tensor, ""] | None:
        """Return a loss that the mechanism adds to training, or None."""
        return None

    def pin(self, grid: Grid) -> None:
        """Fix every choice that depends on the grid to the one for ``grid``, as an exported graph requires."""

    def apply_dense(
        self,
        matrix: Float[Tensor, "batch heads tokens keys"],
        values: Float[Tensor, "batch heads keys head_dim"],
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return ``project(merge_heads(matrix @ values))``, the definition evaluated as it is written."""
        return self.project(matrix @ values)

    def project(
        self,
        heads: Float[Tensor, "batch heads tokens head_dim"],
        token_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the output projection of the concatenated heads, with zeros for padding."""
        heads = heads if token_mask is None else zero_padding(heads, token_mask[:, None])
        return self.dropout(self.output(heads.transpose(1, 2).flatten(2)))

    def num_tokens(self, grid: Grid) -> int:
        """Return the number of tokens of one image."""
        return self.num_prefix_tokens + math.prod(grid)

    def check_grid(self, tokens: Tensor, grid: Grid) -> None:
        """Raise ``ValueError`` unless ``grid`` and the prefix account for every token."""
        if tokens.shape[1] != self.num_tokens(grid):
            raise ValueError(
                f"{tokens.shape[1]} tokens, but {self.num_prefix_tokens} + grid {grid} = {self.num_tokens(grid)}"
            )


def split_heads(
    projected: Float[Tensor, "batch tokens dims"], parts: int, num_heads: int
) -> tuple[Float[Tensor, "batch heads tokens head_dim"], ...]:
    """Return ``parts`` equal slices of the last axis, each with the heads as the second axis."""
    shaped = projected.unflatten(2, (parts, num_heads, -1))
    return torch.unbind(shaped.permute(2, 0, 3, 1, 4), dim=0)


def zero_padding(tokens: Tensor, token_mask: Tensor | None) -> Tensor:
    """Return the tokens with padding set to zero, by selection and not by a product, since 0 * NaN is NaN."""
    return tokens if token_mask is None else tokens.masked_fill(~token_mask[..., None], 0.0)


def with_zero_gradient(result: Tensor, *parameters: Tensor | None) -> Tensor:
    """Return the result, which does not depend on the parameters, with a gradient of zero for them rather than none.

    Training on several processes waits for the gradient of every parameter.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_exporting():
        for parameter in parameters:
            result = result if parameter is None else result + 0.0 * parameter.sum()
    return result


def masked_softmax(logits: Tensor, token_mask: Tensor | None) -> Tensor:
    """Return the softmax over real keys (batch, heads, tokens, keys); rows of padding are zero."""
    if token_mask is None:
        return torch.softmax(logits, dim=-1)
    matrix = torch.softmax(logits.masked_fill(~token_mask[:, None, None, :], float("-inf")), dim=-1)
    return zero_padding(matrix, token_mask[:, None])


def refuse_mask(mechanism: str, token_mask: Tensor | None) -> None:
    """Raise if a mechanism whose result depends on the whole grid is given a mask.

    Raises:
        GossamerError: ``E-UNSUPPORTED``.
    """
    if token_mask is not None:
        problem = "padded tokens would change the result of real tokens"
        raise GossamerError(ErrorCode.UNSUPPORTED, mechanism, problem, "give images of one size, or use sequence_norm")
