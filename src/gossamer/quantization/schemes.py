"""The rungs that a network climbs until the loss is small enough: dynamic, static, mixed precision.

The first rung is the cheapest to make and needs no calibration data; the last keeps ever more of the most sensitive
layers in floating point. The loss is judged on the validation split alone. Its estimate decides; the interval says how
much a split of that size can say at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.errors import GossamerError
from gossamer.quantization.accuracy_loss import AccuracyLoss
from gossamer.quantization.products import Product
from gossamer.quantization.verify import Int8Verification

SchemeName = Literal["dynamic", "static", "mixed"]


@dataclass(frozen=True)
class Int8Candidate:
    """A network in 8 bits that has yet to show what it lost.

    Attributes:
        rung: that it stands on.
        model: content of its ONNX file.
        chosen: products in 8 bits.
        kept: products in floating point.
    """

    rung: SchemeName
    model: bytes
    chosen: tuple[Product, ...]
    kept: tuple[Product, ...]


@dataclass(frozen=True)
class TriedCandidate:
    """What came of a candidate.

    Attributes:
        rung: that it stood on.
        kept: labels of the products in floating point.
        bytes: of its file.
        comparison: what it lost; None where it was refused before.
        proof: what was counted; None where it was refused before.
        refused: why it is no network in 8 bits at all.
    """

    rung: SchemeName
    kept: tuple[str, ...]
    bytes: int
    comparison: AccuracyLoss | None = None
    proof: Int8Verification | None = None
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the step as data."""
        return {
            "rung": self.rung,
            "kept": list(self.kept),
            "bytes": self.bytes,
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "proof": None if self.proof is None else self.proof.to_json(),
            "refused": self.refused,
        }

    def __str__(self) -> str:
        kept = f", {describe_kept_layers(len(self.kept))}" if self.kept else ""
        if self.comparison is None:
            return f"{self.rung}{kept}: refused, {self.refused}"
        found = self.comparison
        noise = f"signal to noise {found.sqnr_db:.1f} dB, {found.flips:.2%} decided otherwise"
        return f"{self.rung}{kept}: {found.metric} {found.worse}; {noise}"


def describe_kept_layers(count: int) -> str:
    """Return how many layers are kept, in words."""
    return f"{count} layer{'' if count == 1 else 's'} in floating point"


Examine = Callable[[Int8Candidate], tuple[AccuracyLoss, Int8Verification]]


def first_within_drop(
    candidates: Iterable[Int8Candidate],
    examine: Examine,
    max_drop: float,
    on_step: Callable[[TriedCandidate], None] = lambda step: None,
) -> tuple[Int8Candidate | None, tuple[TriedCandidate, ...]]:
    """Return the first candidate whose metric drops by ``max_drop`` at most, and what came of all until there.

    Args:
        candidates: from the lowest rung on; the next is made only where those before it fail.
        examine: returns what a candidate lost and the proof that it is in 8 bits, or raises where it is degenerate.
        max_drop: largest drop of the metric.
        on_step: told what came of each.
    """
    steps: list[TriedCandidate] = []
    for candidate in candidates:
        labels, size = tuple(product.label for product in candidate.kept), len(candidate.model)
        try:
            comparison, proof = examine(candidate)
        except GossamerError as error:
            steps.append(TriedCandidate(candidate.rung, labels, size, refused=f"{error.where}: {error.problem}"))
        else:
            steps.append(TriedCandidate(candidate.rung, labels, size, comparison, proof))
            if comparison.drop.value <= max_drop:
                on_step(steps[-1])
                return candidate, tuple(steps)
        on_step(steps[-1])
    return None, tuple(steps)
