"""The power with which a cost grows. Nothing here needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def loglog_slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return ``e`` of ``cost ~ size^e`` by least squares of the logarithms; NaN below two sizes."""
    if len(set(sizes)) < 2:
        return math.nan
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(costs, np.float64))
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
