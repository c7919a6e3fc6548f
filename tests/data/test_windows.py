"""Sliding windows."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.data import windows
from gossamer.data.windows import blend_bands, window_starts


def whole(stack: np.ndarray, window: tuple[int, int], predict: windows.Predict, overlap: float = 0.5) -> np.ndarray:
    parts = list(blend_bands(stack, window, predict, overlap))
    out = np.full((len(stack), parts[0].values.shape[1], *stack.shape[2:]), np.nan, dtype=np.float32)
    for band in parts:
        assert np.isnan(out[band.slices, :, band.rows]).all(), "a row is handed out once"
        out[band.slices, :, band.rows] = band.values
    return out


@pytest.mark.parametrize("shape", [(5, 7), (16, 24), (37, 11), (11, 53), (61, 47)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
def test_what_every_window_says_of_a_pixel_comes_back(shape: tuple[int, int], overlap: float) -> None:
    stack = np.random.default_rng(0).normal(size=(3, 2, *shape)).astype(np.float32)
    out = whole(stack, (16, 12), lambda batch: batch, overlap)
    np.testing.assert_allclose(out, stack, rtol=1e-5, atol=1e-6)


def test_windows_cover_both_ends_and_share_what_was_asked() -> None:
    assert window_starts(16, 16, 0.5) == [0]
    assert window_starts(7, 16, 0.5) == [0]
    for size in range(17, 90):
        found = window_starts(size, 16, 0.5)
        assert found[0] == 0
        assert found[-1] == size - 16
        assert max(np.diff(found)) <= 8


def blurring(batch: np.ndarray) -> np.ndarray:
    """A function whose answer depends on where the window lies."""
    mean = batch.mean(axis=(2, 3), keepdims=True)
    return batch * 0.5 + mean


def test_the_order_of_windows_and_the_size_of_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.random.default_rng(1).normal(size=(5, 1, 41, 35)).astype(np.float32)
    plain = whole(stack, (16, 16), blurring)
    for batch in (1, 3, 64):
        monkeypatch.setattr(windows, "BATCH", batch)
        np.testing.assert_allclose(whole(stack, (16, 16), blurring), plain, rtol=1e-5, atol=1e-6)
    # The same blend, window by window in a random order.
    weights = windows._window_weights((16, 16), single=(False, False))
    corners = [(row, column) for row in window_starts(41, 16, 0.5) for column in window_starts(35, 16, 0.5)]
    for seed in (0, 1):
        sums, total = np.zeros_like(stack), np.zeros(stack.shape[2:])
        for index in np.random.default_rng(seed).permutation(len(corners)):
            row, column = corners[index]
            rows, columns = slice(row, row + 16), slice(column, column + 16)
            sums[:, :, rows, columns] += weights * blurring(stack[:, :, rows, columns])
            total[rows, columns] += weights
        np.testing.assert_allclose(plain, sums / total, rtol=1e-4, atol=1e-5)


def test_flipping_the_image_flips_the_answer() -> None:
    stack = np.random.default_rng(2).normal(size=(2, 1, 40, 36)).astype(np.float32)
    turned = whole(stack[:, :, ::-1, ::-1], (16, 12), blurring)[:, :, ::-1, ::-1]
    np.testing.assert_allclose(turned, whole(stack, (16, 12), blurring), rtol=1e-4, atol=1e-5)


def test_bands_are_no_higher_than_a_window() -> None:
    stack = np.zeros((1, 1, 400, 30), dtype=np.float32)
    assert max(band.values.shape[2] for band in blend_bands(stack, (16, 16), lambda batch: batch)) <= 16
