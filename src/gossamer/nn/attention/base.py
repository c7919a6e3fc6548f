"""What every attention mechanism promises.

All mechanisms here are linear in their values::

    output = project(merge_heads(A(x) @ V(x)))

They differ in how the matrix A is formed, and in the order in which the product is evaluated.
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
"""Stands for a logit of minus infinity where a product with it must stay finite, in half precision too."""


@dataclass(frozen=True)
class Host:
    """What a network decides about the attention that it holds.

    Attributes:
        dim: width of a token.
        num_heads: number of heads; divides ``dim``, unless the heads have a width of their own.
        grid: token counts along each axis that the network is built for; most mechanisms take any other grid too.
        num_prefix_tokens: tokens in front of those of the grid, such as a class token.
        qkv_bias: whether the projections of queries, keys and values have a bias.
        dropout: probability of dropout after the output projection.
        own_head_dim: width of a head where the mechanism brings one; ``dim / num_heads`` if left out.

    Raises:
        GossamerError: ``E-CONFIG`` when the heads do not divide the width.
    """

    dim: int
    num_heads: int
    grid: Grid
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


@dataclass(frozen=True)
class AttentionConfig(ABC):
    """The parameters that belong to one mechanism alone; what a network decides is given to ``build``."""

    name: ClassVar[str]

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
        """Width of a head where the mechanism has its own, whatever the width of a token; None for most."""
        return None

    def build(
        self,
        dim: int,
        num_heads: int,
        *,
        grid: Grid,
        num_prefix_tokens: int = 0,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> Attention:
        """Return the mechanism for tokens of width ``dim``. Arguments are those of ``Host``.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED``, where the mechanism does not fit the network.
        """
        return self.make(Host(dim, num_heads, grid, num_prefix_tokens, qkv_bias, dropout, self.own_head_dim))

    @abstractmethod
    def make(self, host: Host) -> Attention:
        """Return the mechanism for a network that decided ``host``."""


class Attention(nn.Module, ABC):
    """A mechanism: tokens in, tokens out.

    Tokens are ``num_prefix_tokens`` and then those of ``grid`` in row-major order, so their number is
    ``num_prefix_tokens + prod(grid)``. ``token_mask`` is True for a real token; real tokens get exactly what they would
    get without the others, and the others get zeros before the output projection's bias. A mechanism that cannot keep
    this refuses a mask.
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
        """Return the attended tokens, evaluated in the fastest order."""

    @abstractmethod
    def dense_form(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        grid: Grid,
        token_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Float[Tensor, "batch heads tokens keys"], Float[Tensor, "batch heads keys head_dim"]]:
        """Return the matrix A and the values V of the definition; quadratic in the tokens."""

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Return the closed form of what ``forward`` costs for one image."""

    def auxiliary_loss(
        self, tokens: Float[Tensor, "batch tokens dim"], grid: Grid, token_mask: Tensor | None = None
    ) -> Float[Tensor, ""] | None:
        """Return the loss that the mechanism adds to training, or None if it has none."""
        return None

    def pin(self, grid: Grid) -> None:
        """Fix every choice that depends on the grid to the one for ``grid``, as an exported graph must."""

    def apply_dense(
        self,
        matrix: Float[Tensor, "batch heads tokens keys"],
        values: Float[Tensor, "batch heads keys head_dim"],
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return ``project(merge_heads(matrix @ values))``: the definition, evaluated as it is written."""
        return self.project(matrix @ values)

    def project(
        self,
        heads: Float[Tensor, "batch heads tokens head_dim"],
        token_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the heads side by side, those of padding zero, through the output projection."""
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
    """Return the ``parts`` equal slices of the last axis, each with its heads as the second axis."""
    shaped = projected.unflatten(2, (parts, num_heads, -1))
    return torch.unbind(shaped.permute(2, 0, 3, 1, 4), dim=0)


def zero_padding(tokens: Tensor, token_mask: Tensor | None) -> Tensor:
    """Return the tokens with padding set to zero; selected, not multiplied, since 0 * NaN is NaN."""
    return tokens if token_mask is None else tokens.masked_fill(~token_mask[..., None], 0.0)


def with_zero_gradient(result: Tensor, *parameters: Tensor | None) -> Tensor:
    """Return the result, from which the parameters cancel, with a gradient of zero for them in place of none.

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
    """Raise ``E-UNSUPPORTED`` where a mechanism whose result depends on the whole grid is given a mask."""
    if token_mask is not None:
        problem = "padded tokens would change the result of real ones"
        raise GossamerError(ErrorCode.UNSUPPORTED, mechanism, problem, "give images of one size, or use sequence_norm")
