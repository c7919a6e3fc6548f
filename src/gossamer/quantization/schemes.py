"""The quantization schemes, tried in order until the accuracy loss is small enough: dynamic, static, mixed precision.

The first scheme is the cheapest and needs no calibration data; the last keeps more and more of the most sensitive
layers in float32. The loss is measured on the validation split only. Its estimate decides; the interval shows how much
a split of that size can tell.
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
    """An int8 network whose accuracy loss is not known yet.

    Attributes:
        scheme: Quantization scheme.
        model: Content of its ONNX file.
        chosen: Products in int8.
        kept: Products in float32.
    """

    scheme: SchemeName
    model: bytes
    chosen: tuple[Product, ...]
    kept: tuple[Product, ...]


@dataclass(frozen=True)
class TriedCandidate:
    """An int8 candidate with what was found about it.

    Attributes:
        scheme: Quantization scheme.
        kept: Labels of the products in float32.
        bytes: Size of its ONNX file.
        loss: Accuracy loss; None if the candidate was refused before.
        verification: Counts of the int8 graph; None if the candidate was refused before.
        refused: Reason why it is not a usable int8 network; None if it is one.
    """

    scheme: SchemeName
    kept: tuple[str, ...]
    bytes: int
    loss: AccuracyLoss | None = None
    verification: Int8Verification | None = None
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as data."""
        return {
            "rung": self.scheme,
            "kept": list(self.kept),
            "bytes": self.bytes,
            "comparison": None if self.loss is None else self.loss.to_json(),
            "proof": None if self.verification is None else self.verification.to_json(),
            "refused": self.refused,
        }

    def __str__(self) -> str:
        kept = f", {describe_kept_layers(len(self.kept))}" if self.kept else ""
        if self.loss is None:
            return f"{self.scheme}{kept}: refused, {self.refused}"
        return f"{self.scheme}{kept}: {self.loss.metric} {self.loss.drop_text}; {self.loss.noise_text}"


def describe_kept_layers(count: int) -> str:
    """Return the number of layers in float32 as text."""
    return f"{count} layer{'' if count == 1 else 's'} in float32"


Examine = Callable[[Int8Candidate], tuple[AccuracyLoss, Int8Verification]]
"""Function that measures and verifies a candidate, or raises if it is degenerate."""


def first_within_drop(
    candidates: Iterable[Int8Candidate],
    examine: Examine,
    max_drop: float,
    on_tried: Callable[[TriedCandidate], None] = lambda tried: None,
) -> tuple[Int8Candidate | None, tuple[TriedCandidate, ...]]:
    """Return the first candidate whose metric drops by at most ``max_drop``, and all candidates that were tried.

    Args:
        candidates: Candidates in order; the next is made only if all before it fail.
        examine: Function that returns the accuracy loss and the verification of a candidate.
        max_drop: Largest allowed degradation of the metric.
        on_tried: Function that is called with each tried candidate.
    """
    tried: list[TriedCandidate] = []
    for candidate in candidates:
        labels, size = tuple(product.label for product in candidate.kept), len(candidate.model)
        try:
            loss, verification = examine(candidate)
        except GossamerError as error:
            tried.append(TriedCandidate(candidate.scheme, labels, size, refused=f"{error.where}: {error.problem}"))
        else:
            tried.append(TriedCandidate(candidate.scheme, labels, size, loss, verification))
            if loss.drop.value <= max_drop:
                on_tried(tried[-1])
                return candidate, tuple(tried)
        on_tried(tried[-1])
    return None, tuple(tried)
