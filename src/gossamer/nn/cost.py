"""The closed form of what a computation costs, for one image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Work and memory of a computation, counted from its equations.

    Costs of parts that run one after the other add up: their work is summed, and their larger intermediate counts.

    Attributes:
        macs: Multiply-accumulates of all contractions (matrix products, convolutions). 1 MAC = 2 FLOPs.
        exponentials: Evaluations of exp, in a softmax or a Gaussian kernel.
        largest_intermediate: Number of elements of the largest tensor that the equations form.
    """

    macs: int = 0
    exponentials: int = 0
    largest_intermediate: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.exponentials + other.exponentials,
            max(self.largest_intermediate, other.largest_intermediate),
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(self.macs * times, self.exponentials * times, self.largest_intermediate)


def linear_cost(tokens: int, in_features: int, out_features: int) -> Cost:
    """Return the cost of a linear layer on ``tokens`` rows."""
    return Cost(macs=tokens * in_features * out_features, largest_intermediate=tokens * max(in_features, out_features))


def convolution_cost(positions: int, in_channels: int, out_channels: int, kernel: tuple[int, int]) -> Cost:
    """Return the cost of a dense 2-D convolution with ``positions`` outputs; padding counts as work."""
    return Cost(
        macs=positions * in_channels * out_channels * kernel[0] * kernel[1],
        largest_intermediate=positions * out_channels,
    )
