"""The power with which a cost grows."""

from __future__ import annotations

import math

import pytest

from gossamer.profiling.exponent import loglog_slope


def test_an_exponent_is_the_slope_of_the_logarithms() -> None:
    assert loglog_slope([784, 3136, 12544], [5 * size**1.7 for size in (784, 3136, 12544)]) == pytest.approx(1.7)
    assert math.isnan(loglog_slope([784], [3.0]))
