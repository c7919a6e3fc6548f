"""Mechanisms with random parameters and tokens to check them with; every draw is the same for the same size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import Attention, AttentionConfig
from gossamer.nn.attention.base import Grid

BATCH = 2


class CheckError(Exception):
    """A promise that is broken, with the numbers."""


class RefusalError(Exception):
    """A refusal that is allowed, with its reason."""


@dataclass(frozen=True)
class CheckSize:
    """Size of a mechanism to check.

    Attributes:
        dim: Width of a token.
        num_heads: Number of heads.
        grid: Number of tokens along each axis.
        num_prefix_tokens: Number of tokens before those of the grid; 0 is taken where the mechanism refuses others.
        dropout: Probability of dropout.
    """

    dim: int
    num_heads: int
    grid: Grid
    num_prefix_tokens: int = 0
    dropout: float = 0.0


def build_randomly(mechanism: AttentionConfig, size: CheckSize) -> Attention:
    """Return the mechanism in float64 with every parameter drawn at random, the same for the same size.

    Raises:
        RefusalError: The mechanism refuses the size with ``E-UNSUPPORTED``.
    """
    with fixed_seed(size.dim + size.num_heads):
        attention = build_mechanism(mechanism, size).double().eval()
        with torch.no_grad():
            for parameter in attention.parameters():
                parameter.normal_(std=0.5)
    return attention


def draw_tokens(attention: Attention, grid: Grid, batch: int = BATCH) -> Tensor:
    """Return normally distributed tokens in float64, the same for the same arguments."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, attention.num_tokens(grid), attention.dim, generator=generator, dtype=torch.float64)


def build_mechanism(mechanism: AttentionConfig, size: CheckSize) -> Attention:
    """Return the mechanism with its initial parameters, without prefix tokens where it refuses them.

    Raises:
        RefusalError: The mechanism refuses the size with ``E-UNSUPPORTED``.
    """
    arguments: dict[str, Any] = {"grid": size.grid, "dropout": size.dropout}
    try:
        try:
            return mechanism.build(size.dim, size.num_heads, num_prefix_tokens=size.num_prefix_tokens, **arguments)
        except GossamerError as error:
            if error.code is not ErrorCode.UNSUPPORTED or not size.num_prefix_tokens:
                raise
            return mechanism.build(size.dim, size.num_heads, **arguments)
    except GossamerError as error:
        raise translate_refusal(error) from error


def draw_leaves(attention: Attention, grid: Grid) -> tuple[Tensor, ...]:
    """Return tokens and parameters as tensors that require gradients."""
    parameters = (parameter.detach().requires_grad_() for parameter in attention.parameters())
    return (draw_tokens(attention, grid).requires_grad_(), *parameters)


def make_functional(attention: Attention, grid: Grid, *, dense: bool = False) -> Callable[..., Tensor]:
    """Return the fast form or the dense form as a function of tokens and parameters."""
    module = AttentionOnGrid(attention, grid, dense=dense)
    names = [f"attention.{name}" for name, _ in attention.named_parameters()]

    def call(tokens: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (tokens,))

    return call


class AttentionOnGrid(nn.Module):
    """A mechanism as a module of tokens alone."""

    def __init__(self, attention: Attention, grid: Grid, *, dense: bool = False) -> None:
        super().__init__()
        self.attention = attention
        self.grid = grid
        self.dense = dense

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens, by the fast form or by the dense form."""
        if self.dense:
            return self.attention.apply_dense(*self.attention.dense_form(tokens, self.grid))
        return self.attention(tokens, self.grid)


class AttentionOnPlane(nn.Module):
    """A mechanism as a module of planes (batch, rows, columns, dim), whose rows a graph may leave free."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, plane: Tensor) -> Tensor:
        """Return the attended plane."""
        grid = (plane.shape[1], plane.shape[2])
        return self.attention(plane.flatten(1, 2), grid).unflatten(1, grid)

    def draw(self, batch: int, grid: Grid) -> Tensor:
        """Return random planes in float32."""
        return draw_tokens(self.attention, grid, batch).float().unflatten(1, grid)


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Seed torch for the block; its random state is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def translate_refusal(error: GossamerError) -> Exception:
    """Return the refusal that ``E-UNSUPPORTED`` stands for; any other error as it is."""
    return RefusalError(error.problem) if error.code is ErrorCode.UNSUPPORTED else error
