"""Spacing, slices and masks: what the steps of segmentation do to volumes, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.data import Image
from gossamer.data.transforms import (
    Channels,
    Preprocessing,
    Respace,
    StandardizeEach,
    nearest_planes,
    resample_planes,
)
from gossamer.errors import ErrorCode, GossamerError

SPACING = (3.0, 0.8, 1.3)


def volume(array: np.ndarray, spacing_mm: tuple[float, ...] | None = SPACING) -> Image:
    return Image(array, ("slices", "rows", "columns", "channels")[: array.ndim], "test", spacing_mm=spacing_mm)


def waves(shape: tuple[int, int], periods: tuple[float, float] = (1.0, 1.5)) -> np.ndarray:
    """A smooth picture, known at every place of its extent."""
    y, x = ((np.arange(size) + 0.5) / size for size in shape)
    return np.cos(2 * np.pi * periods[0] * y)[:, None] + np.sin(2 * np.pi * periods[1] * x)[None]


def test_respacing_gives_the_spacing_and_keeps_the_slices() -> None:
    array = np.random.default_rng(0).normal(size=(3, 40, 30, 2)).astype(np.float32)
    found = Respace(1.0, 0.5)(volume(array))
    assert found.array.shape == (3, 32, 78, 2)
    assert found.spacing_mm == pytest.approx((3.0, 1.0, 0.5))
    for index in range(3):
        for channel in range(2):
            flat = Image(array[index, ..., channel], ("rows", "columns"), "test", spacing_mm=SPACING[1:])
            alone = Respace(1.0, 0.5)(flat)
            np.testing.assert_allclose(found.array[index, ..., channel], alone.array, atol=1e-6)
    assert alone.spacing_mm == pytest.approx((1.0, 0.5))


def test_respacing_states_the_spacing_that_whole_pixels_allow() -> None:
    found = Respace(1.0, 1.0)(volume(np.zeros((2, 7, 9), np.int16)))
    assert found.spatial_shape == (2, 6, 12)  # 5.6 and 11.7 mm
    assert found.spacing_mm == pytest.approx((3.0, 5.6 / 6, 11.7 / 12))
    assert Respace(100.0, 100.0)(volume(np.zeros((2, 7, 9), np.int16))).spatial_shape == (2, 1, 1)


def test_respacing_wants_to_know_the_spacing() -> None:
    with pytest.raises(GossamerError) as caught:
        Respace(1.0, 1.0)(volume(np.zeros((2, 3, 5)), None))
    assert caught.value.code is ErrorCode.GEOMETRY


@pytest.mark.parametrize(("old", "new"), [((41, 60), (67, 55)), ((80, 64), (52, 97))])
def test_resampling_a_smooth_picture_gives_the_picture_of_the_new_grid_and_comes_back(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    there = resample_planes(np.stack([waves(old), -waves(old)])[:, None], new)
    assert there.shape == (2, 1, *new)
    inner = (..., slice(3, -3), slice(3, -3))  # at the border the filter sees one side only
    np.testing.assert_allclose(there[inner], np.stack([waves(new), -waves(new)])[:, None][inner], atol=0.03)
    back = resample_planes(there, old)
    np.testing.assert_allclose(back[inner], np.stack([waves(old), -waves(old)])[:, None][inner], atol=0.05)


def test_resampling_to_the_same_shape_changes_no_value() -> None:
    planes = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(resample_planes(planes, (5, 7)), planes)
    np.testing.assert_array_equal(nearest_planes(planes, (5, 7)), planes)


def test_the_nearest_pixel_is_found_by_centres() -> None:
    for old, new in ((5, 12), (12, 5), (7, 7), (1, 4), (9, 1)):
        centres = (np.arange(new) + 0.5) * old / new
        apart = np.abs(centres[:, None] - (np.arange(old) + 0.5))
        found = nearest_planes(np.arange(old)[:, None].repeat(3, axis=1), (new, 3))[:, 0]
        np.testing.assert_allclose(apart[np.arange(new), found], apart.min(axis=1))


def test_enlarged_masks_come_back_voxel_for_voxel_without_new_values() -> None:
    masks = np.random.default_rng(1).choice(np.array([0, 3, 200], np.uint8), size=(2, 11, 6))
    large = nearest_planes(masks, (33, 25))
    assert large.dtype == np.uint8
    assert set(np.unique(large)) == {0, 3, 200}
    np.testing.assert_array_equal(nearest_planes(large, (11, 6)), masks)
    np.testing.assert_array_equal(nearest_planes(masks, (22, 18)), masks.repeat(2, axis=1).repeat(3, axis=2))


def test_each_case_or_slice_and_channel_is_standardized_by_itself() -> None:
    generator = np.random.default_rng(2)
    scale = np.array([1, 50, 3]).reshape(3, 1, 1, 1) * np.array([2.0, 0.1])
    array = (generator.normal(size=(3, 31, 23, 2)) * scale + 100 * scale).astype(np.float32)
    case, slices = (StandardizeEach(over, percent=0.0)(volume(array)).array for over in ("case", "slice"))
    for channel in range(2):
        assert case[..., channel].mean() == pytest.approx(0, abs=1e-4)
        assert case[..., channel].std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(slices.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(slices.std(axis=(1, 2)), 1, atol=1e-4)
    assert case[1].mean() > 0.5  # the slice with the large values stays the brightest one
    assert case.dtype == slices.dtype == np.float32


def test_extremes_are_clipped_and_the_scale_of_a_case_does_not_matter() -> None:
    array = np.random.default_rng(3).normal(size=(2, 40, 50)).astype(np.float32)
    spoilt = array.copy()
    spoilt[1, 7, 9] = 1e6
    plain, other = (StandardizeEach("case")(volume(a)).array for a in (array, spoilt))
    assert other.max() < 4
    spoilt_place = np.ravel_multi_index((1, 7, 9), array.shape)
    np.testing.assert_allclose(np.delete(other, spoilt_place), np.delete(plain, spoilt_place), atol=0.06)
    np.testing.assert_allclose(StandardizeEach("case")(volume(array * 700 + 3000)).array, plain, atol=1e-3)


def test_what_is_constant_becomes_zero_and_what_is_no_number_is_refused() -> None:
    array = np.full((2, 5, 7), 0.1, np.float32)
    np.testing.assert_array_equal(StandardizeEach("case")(volume(array)).array, 0)
    array[1] = np.random.default_rng(0).normal(size=(5, 7))
    np.testing.assert_array_equal(StandardizeEach("slice")(volume(array)).array[0], 0)
    array[0, 0, 0] = np.nan
    with pytest.raises(GossamerError, match="1 values") as caught:
        StandardizeEach("case")(volume(array))
    assert caught.value.code is ErrorCode.VALUE


def test_a_picture_is_one_slice() -> None:
    array = np.random.default_rng(4).normal(size=(5, 7, 3)).astype(np.float32)
    image = Image(array, ("rows", "columns", "channels"), "test")
    stack = Preprocessing(()).network_stack(image)
    assert stack.shape == (1, 3, 5, 7)
    np.testing.assert_array_equal(stack[0], Preprocessing(()).network_input(image))
    np.testing.assert_array_equal(*(StandardizeEach(over)(image).array for over in ("case", "slice")))
    with_slices = volume(array[None].repeat(2, axis=0))
    np.testing.assert_array_equal(Preprocessing(()).network_stack(with_slices)[1], stack[0])
    assert Preprocessing((Channels(1),)).network_stack(volume(array)).shape == (5, 1, 7, 3)


def test_the_steps_of_segmentation_survive_json() -> None:
    image = volume(np.random.default_rng(5).normal(size=(3, 12, 17)).astype(np.float32))
    for last in (StandardizeEach("case", 1.5), StandardizeEach("slice")):
        preprocessing = Preprocessing((Channels(1), Respace(0.75, 0.5), last))
        again = Preprocessing.from_json(preprocessing.to_json())
        assert again == preprocessing
        np.testing.assert_array_equal(again.network_stack(image), preprocessing.network_stack(image))
    with pytest.raises(GossamerError) as caught:
        Preprocessing.from_json([{"name": "standardize_each", "over": "patient"}])
    assert caught.value.code is ErrorCode.CONFIG
