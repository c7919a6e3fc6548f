"""Sensitivity of layers to int8: one layer is quantized at a time, and the noise of the logits is measured.

The noise of several layers adds up nearly as that of independent sources, so that the effect of each layer alone shows
which ones to keep in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.quantization.products import Product
from gossamer.quantization.verify import measure_sqnr_db

MAX_GROUPS = 64
"""Largest number of measurements: in larger networks, neighbouring layers are measured together."""
MIN_INT8_MACS = 0.5
"""Share of the multiply-accumulates that stays in int8 however sensitive the layers are."""


@dataclass(frozen=True)
class LayerSensitivity:
    """Noise of the logits with one layer, or some neighbouring layers, in int8 and all others in float32.

    Attributes:
        products: Products of the layers.
        sqnr_db: Signal-to-quantization-noise ratio of the logits, in dB; infinite if nothing changes.
    """

    products: tuple[Product, ...]
    sqnr_db: float

    @property
    def label(self) -> str:
        """Name of the layer, or of the first and the last one."""
        first, last = self.products[0].label, self.products[-1].label
        return first if len(self.products) == 1 else f"{first} … {last}"


def measure_sensitivities(
    products: Sequence[Product],
    quantize: Callable[[Sequence[Product]], bytes],
    compute_logits: Callable[[bytes], np.ndarray],
    reference: np.ndarray,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[LayerSensitivity, ...]:
    """Return the sensitivity of each layer, in the order of the graph.

    Args:
        products: Products of the graph.
        quantize: Function that returns the graph with some products in int8.
        compute_logits: Function that returns the logits of a graph for some calibration inputs.
        reference: Logits for the same inputs in float32.
        on_progress: Function of the number of layers done and their total.
    """
    count = _count_groups(len(products))
    groups = [tuple(group) for group in np.array_split(np.array(products, dtype=object), count)]
    found = []
    for done, group in enumerate(groups, start=1):
        found.append(LayerSensitivity(group, measure_sqnr_db(reference, compute_logits(quantize(group)))))
        on_progress(done, len(groups))
    return tuple(found)


def keep_sensitive(
    sensitivities: Sequence[LayerSensitivity], always: Sequence[Product] = ()
) -> Iterator[tuple[Product, ...]]:
    """Yield more and more products to keep in float32, the most sensitive first: of 1, 2, 4, 8, ... layers.

    The sequence ends before less than half of the multiply-accumulates would stay in int8.

    Args:
        sensitivities: Sensitivity of each layer.
        always: Products that are kept in any case.
    """
    ranked = sorted(sensitivities, key=lambda layer: (layer.sqnr_db, -_count_macs(layer.products)))
    total, count = sum(_count_macs(layer.products) for layer in sensitivities), 1
    while count < len(ranked):
        kept = {product.node: product for layer in ranked[:count] for product in layer.products}
        kept |= {product.node: product for product in always}
        if _count_macs(tuple(kept.values())) > (1 - MIN_INT8_MACS) * total:
            return
        yield tuple(kept.values())
        count *= 2


def _count_macs(products: Sequence[Product]) -> int:
    return sum(max(product.macs, 1) for product in products)


def _count_groups(products: int) -> int:
    return max(1, math.ceil(products / math.ceil(products / MAX_GROUPS)))
