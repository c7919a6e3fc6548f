"""Resampling against the triangle filter written out as a matrix, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.data.transforms import resample_planes


def filter_matrix(size: int, new_size: int) -> np.ndarray:
    """The weight of every sample for every new one, ``(new_size, size)``."""
    scale = size / new_size
    centres = (np.arange(new_size) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("shape", "new_shape"),
    [((2, 3, 37, 53), (11, 90)), ((5, 64, 40), (64, 23)), ((7, 1), (3, 6)), ((3, 700, 610), (224, 301))],
)
def test_planes_are_filtered_by_the_triangle(shape: tuple[int, ...], new_shape: tuple[int, int]) -> None:
    planes = np.random.default_rng(3).normal(size=shape)
    wanted = filter_matrix(shape[-2], new_shape[0]) @ planes @ filter_matrix(shape[-1], new_shape[1]).T
    found = resample_planes(planes, new_shape)
    assert (found.shape, found.dtype) == ((*shape[:-2], *new_shape), np.float32)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_a_constant_stays_constant() -> None:
    assert np.ptp(resample_planes(np.full((2, 19, 31), 0.7), (8, 45))) < 1e-6
