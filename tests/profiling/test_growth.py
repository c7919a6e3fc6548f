"""Exponents of growing costs."""

from __future__ import annotations

import math

import pytest

from gossamer.profiling.growth import fit_exponent, loglog_slope


def test_an_exponent_is_the_slope_of_the_logarithms() -> None:
    assert loglog_slope([784, 3136, 12544], [5 * size**1.7 for size in (784, 3136, 12544)]) == pytest.approx(1.7)
    assert math.isnan(loglog_slope([784], [3.0]))


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_is_that_power(power: float) -> None:
    found = fit_exponent([(pixels, 3.7 * pixels**power) for pixels in (48, 200, 1024)], "computed")
    assert found.value == pytest.approx(power)
    assert found.how == "computed"
    assert "3 sizes" in found.detail


def test_no_exponent_of_one_point() -> None:
    assert fit_exponent([(48, 5.0), (96, None)], "measured").how == "unavailable"
    assert fit_exponent([(48, 5.0), (48, 6.0)], "measured").value is None
