"""Growth of the cost of a network with the image size, and the fitted exponents. Nothing here needs torch.

An exponent is the slope of the logarithm of a cost over the logarithm of the number of pixels: 1 if the cost is
proportional to the pixels, 2 if every pixel is combined with every other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.profiling.figure import Figure, Method
from gossamer.summary import SummaryTable


@dataclass(frozen=True)
class SizeCost:
    """Cost of one image of one size.

    Attributes:
        image_size: Rows and columns.
        tokens: Largest number of tokens that an attention layer of the network sees; None without attention.
        macs: Multiply-accumulates, in closed form.
        tensors: Forecast of the memory that tensors and workspaces need at once in a call.
        memory: Forecast rise of the memory of a process in a call: tensors, and a part of libraries that is constant.
        latency: Median latency of a call.
    """

    image_size: tuple[int, int]
    tokens: int | None
    macs: Figure
    tensors: Figure
    memory: Figure
    latency: Figure

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return math.prod(self.image_size)

    def to_json(self) -> dict[str, Any]:
        """Return the costs as data."""
        figures = {name: getattr(self, name).to_json() for name in ("macs", "tensors", "memory", "latency")}
        return {"image_size": list(self.image_size), "tokens": self.tokens, **figures}


@dataclass(frozen=True)
class Growth:
    """Cost over image sizes.

    Attributes:
        sizes: Cost of each size, smallest first.
        macs_exponent: Exponent of the multiply-accumulates.
        memory_exponent: Exponent of the forecast memory of tensors; the part of libraries does not grow.
        latency_exponent: Exponent of the measured latency.
    """

    sizes: tuple[SizeCost, ...]
    macs_exponent: Figure
    memory_exponent: Figure
    latency_exponent: Figure

    def to_json(self) -> dict[str, Any]:
        """Return the growth as data."""
        exponents = {name: getattr(self, f"{name}_exponent").to_json() for name in ("macs", "memory", "latency")}
        return {"sizes": [size.to_json() for size in self.sizes], "exponents": exponents}

    def summary_table(self) -> SummaryTable:
        """Return a row for each size, with the exponents below."""
        headings = ("image", "tokens", "MACs", "tensors, forecast", "process, forecast", "latency", "detail")
        rows = tuple(
            (
                "x".join(map(str, size.image_size)),
                str(size.tokens or "–"),
                *(str(figure) for figure in (size.macs, size.tensors, size.memory, size.latency)),
                size.latency.detail,
            )
            for size in self.sizes
        )
        exponents = {"MACs": self.macs_exponent, "tensors": self.memory_exponent, "latency": self.latency_exponent}
        lines = [f"{name}: {exponent.detail}, {exponent.how}" for name, exponent in exponents.items()]
        lines.append("A process needs the tensors of a call, and memory of libraries that is the same for every size.")
        return SummaryTable("", headings, rows, "\n".join(lines))


def fit_exponent(points: Sequence[tuple[int, float | None]], how: Method) -> Figure:
    """Return the slope of log cost over log pixels by least squares.

    Args:
        points: Number of pixels and cost of each size; sizes without a cost (None) are ignored.
        how: Method by which the costs were obtained.
    """
    known = [(pixels, cost) for pixels, cost in points if cost]
    if len({pixels for pixels, _ in known}) < 2:
        return Figure(None, "", "unavailable", "fewer than two sizes have a cost")
    slope = loglog_slope(*zip(*known, strict=True))
    detail = f"cost ~ pixels^{slope:.2f}, least squares of the logarithms over {len(known)} sizes"
    return Figure(slope, "", how, detail)


def loglog_slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return ``e`` of ``cost ~ size^e`` by least squares of the logarithms; NaN for fewer than two sizes."""
    if len(set(sizes)) < 2:
        return math.nan
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(costs, np.float64))
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
