"""How much each layer loses in 8 bits: one is quantized at a time, and the noise of the logits is measured.

Noise of different layers adds up nearly as that of independent sources, so that what one layer alone does says which to
keep in floating point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.quantization.products import Product
from gossamer.quantization.verify import measure_sqnr_db

MOST_GROUPS = 64
"""Layers of larger networks are measured together with their neighbours."""
LEAST_MACS = 0.5
"""Share of the multiply-accumulates that stays in 8 bits however sensitive the layers are."""


@dataclass(frozen=True)
class Sensitivity:
    """What some layers lose in 8 bits while all others are in floating point.

    Attributes:
        products: of the layers.
        sqnr_db: of the logits; infinite where nothing changes.
    """

    products: tuple[Product, ...]
    sqnr_db: float

    @property
    def label(self) -> str:
        """What the layers are called."""
        first, last = self.products[0].label, self.products[-1].label
        return first if len(self.products) == 1 else f"{first} … {last}"


def measure_sensitivities(
    products: Sequence[Product],
    quantize: Callable[[Sequence[Product]], bytes],
    logits: Callable[[bytes], np.ndarray],
    reference: np.ndarray,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Sensitivity, ...]:
    """Return the sensitivity of each layer, in the order of the graph.

    Args:
        products: of the graph.
        quantize: the graph with some products in 8 bits.
        logits: of some calibration images by a graph.
        reference: logits of the same images in floating point.
        on_progress: called with the number of layers done, and their total.
    """
    groups = [tuple(group) for group in np.array_split(np.array(products, dtype=object), _groups(len(products)))]
    found = []
    for done, group in enumerate(groups, start=1):
        found.append(Sensitivity(group, measure_sqnr_db(reference, logits(quantize(group)))))
        on_progress(done, len(groups))
    return tuple(found)


def keep_sensitive(
    sensitivities: Sequence[Sensitivity], always: Sequence[Product] = ()
) -> Iterator[tuple[Product, ...]]:
    """Yield ever more products to keep in floating point, the most sensitive first: of 1, 2, 4, 8, ... layers.

    It ends where less than half of the multiply-accumulates would stay in 8 bits.

    Args:
        sensitivities: of the layers.
        always: products that are kept in any case.
    """
    ranked = sorted(sensitivities, key=lambda layer: (layer.sqnr_db, -_macs(layer.products)))
    total, count = sum(_macs(layer.products) for layer in sensitivities), 1
    while count < len(ranked):
        kept = {product.node: product for layer in ranked[:count] for product in layer.products}
        kept |= {product.node: product for product in always}
        if _macs(tuple(kept.values())) > (1 - LEAST_MACS) * total:
            return
        yield tuple(kept.values())
        count *= 2


def _macs(products: Sequence[Product]) -> int:
    return sum(max(product.macs, 1) for product in products)


def _groups(count: int) -> int:
    return max(1, math.ceil(count / math.ceil(count / MOST_GROUPS)))
