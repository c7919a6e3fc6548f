"""Preprocessing: what each step does to the numbers, and that it survives JSON."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data import Image
from gossamer.data.transforms import (
    Channels,
    FitWithin,
    Pad,
    Preprocessing,
    Resize,
    Respace,
    ScaleIntensity,
    Standardize,
    StandardizeEach,
)
from gossamer.errors import ErrorCode, GossamerError


def grey(array: np.ndarray, spacing_mm: tuple[float, float] | None = None) -> Image:
    return Image(array, ("rows", "columns"), source="test", spacing_mm=spacing_mm)


def colour(array: np.ndarray) -> Image:
    return Image(array, ("rows", "columns", "channels"), source="test")


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 4))
def test_resizing_keeps_constants_and_the_range(sizes: tuple[int, int, int, int]) -> None:
    rows, columns, new_rows, new_columns = sizes
    constant = Resize(new_rows, new_columns)(grey(np.full((rows, columns), 3.5, np.float32)))
    np.testing.assert_allclose(constant.array, 3.5, rtol=1e-6)
    noise = np.random.default_rng(0).random((rows, columns)).astype(np.float32)
    resized = Resize(new_rows, new_columns)(grey(noise)).array
    assert resized.shape == (new_rows, new_columns)
    assert noise.min() - 1e-6 <= resized.min()
    assert resized.max() <= noise.max() + 1e-6


def test_resizing_agrees_with_pillow() -> None:
    from PIL import Image as PillowImage

    noise = np.random.default_rng(1).random((37, 53)).astype(np.float32)
    for shape in ((16, 24), (74, 90), (37, 20)):
        wanted = PillowImage.fromarray(noise).resize(shape[::-1], PillowImage.Resampling.BILINEAR)
        np.testing.assert_allclose(Resize(*shape)(grey(noise)).array, np.asarray(wanted), atol=2e-6)


def test_resizing_halves_the_spacing_where_it_doubles_the_rows() -> None:
    resized = Resize(20, 15)(grey(np.zeros((10, 15), np.uint8), spacing_mm=(1.0, 0.5)))
    assert resized.spacing_mm == (0.5, 0.5)


def test_colour_is_resized_channel_by_channel() -> None:
    array = np.random.default_rng(2).random((13, 17, 3)).astype(np.float32)
    resized = Resize(7, 5)(colour(array)).array
    for channel in range(3):
        np.testing.assert_allclose(resized[..., channel], Resize(7, 5)(grey(array[..., channel])).array, atol=1e-6)


def test_fit_within_keeps_proportions_and_pad_centres() -> None:
    image = FitWithin(32, 32)(grey(np.ones((50, 100), np.float32)))
    assert image.array.shape == (16, 32)
    padded = Pad(32, 32, value=-1)(image).array
    assert padded.shape == (32, 32)
    np.testing.assert_allclose(padded[8:24], 1, atol=1e-6)
    np.testing.assert_array_equal(np.delete(padded, np.s_[8:24], axis=0), -1)
    with pytest.raises(GossamerError) as caught:
        Pad(8, 8)(image)
    assert caught.value.code is ErrorCode.GEOMETRY


def test_intensity_is_scaled_from_stored_values_of_one_type() -> None:
    step = ScaleIntensity(100, 300, "uint16")
    scaled = step(grey(np.array([[0, 100], [200, 65535]], np.uint16))).array
    np.testing.assert_allclose(scaled, [[0, 0], [0.5, 1]])
    with pytest.raises(GossamerError) as caught:
        step(grey(np.zeros((2, 2), np.uint8)))
    assert "uint8" in str(caught.value)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        ScaleIntensity(0, 1, "float32")(grey(np.array([[0, np.nan], [np.inf, 1]], np.float32)))
    assert "2 values" in str(caught.value)


def test_channels() -> None:
    plane = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(Channels(3)(grey(plane)).array, np.stack([plane] * 3, axis=-1))
    np.testing.assert_array_equal(Channels(1)(colour(np.stack([plane] * 3, axis=-1))).array, plane)
    coloured = np.stack([plane, plane + 1, plane], axis=-1)
    with pytest.raises(GossamerError) as caught:
        Channels(1)(colour(coloured))
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_every_step_survives_json_and_gives_the_same_input() -> None:
    scale = (Channels(1), ScaleIntensity(3, 250, "uint8"))
    preprocessing = Preprocessing((*scale, FitWithin(20, 24), Resize(18, 24), Standardize(0.4, 0.2), Pad(20, 24)))
    again = Preprocessing.from_json(preprocessing.to_json())
    assert again == preprocessing
    image = grey(np.random.default_rng(0).integers(0, 255, (31, 47), dtype=np.uint8))
    array = preprocessing.network_input(image)
    assert array.shape == (1, 20, 24)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, again.network_input(image))


@pytest.mark.parametrize("data", [[{"name": "resise", "rows": 3, "columns": 3}], [{"name": "resize", "row": 3}], [{}]])
def test_an_unknown_step_or_key_is_named(data: list[dict[str, object]]) -> None:
    with pytest.raises(GossamerError) as caught:
        Preprocessing.from_json(data)
    assert caught.value.code is ErrorCode.CONFIG


NAN, INFINITE = float("nan"), float("inf")
BROKEN = [
    (Channels, {"count": 0}, "count"),
    *((kind, {"rows": 0, "columns": 3}, "rows") for kind in (Resize, FitWithin, Pad)),
    *((kind, {"rows": 3, "columns": -2}, "columns") for kind in (Resize, FitWithin, Pad)),
    *((kind, {"rows": 20_000, "columns": 10_000}, "rows") for kind in (Resize, FitWithin, Pad)),
    (Pad, {"rows": 3, "columns": 2, "value": NAN}, "value"),
    *((Respace, {"rows_mm": mm, "columns_mm": 1.5}, "rows_mm") for mm in (0.0, -1.0, NAN, INFINITE)),
    (Respace, {"rows_mm": 1.5, "columns_mm": 0.0}, "columns_mm"),
    (Respace, {"rows_mm": 1.5, "columns_mm": 1.0, "tolerance": 0.9}, "tolerance"),
    (ScaleIntensity, {"low": NAN, "high": 1.0, "stored": None}, "low"),
    (ScaleIntensity, {"low": 0.0, "high": INFINITE, "stored": None}, "high"),
    (ScaleIntensity, {"low": 2.0, "high": 2.0, "stored": "uint8"}, "low"),
    (ScaleIntensity, {"low": 0.0, "high": -3.0, "stored": "uint8"}, "low"),
    (ScaleIntensity, {"low": 0.0, "high": 1e-60, "stored": "uint8"}, "low"),
    *((Standardize, {"mean": 0.5, "std": std}, "std") for std in (0.0, -1.0, NAN, INFINITE, 1e-60, 1e60)),
    (Standardize, {"mean": -INFINITE, "std": 1.0}, "mean"),
    *((StandardizeEach, {"percent": percent}, "percent") for percent in (-0.5, 50.0, NAN)),
]


@pytest.mark.parametrize(("kind", "values", "field"), BROKEN)
def test_numbers_that_would_spoil_every_image_are_refused(kind: type, values: dict[str, float], field: str) -> None:
    with pytest.raises(GossamerError) as caught:
        kind(**values)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, f"{kind.name}.{field}")  # type: ignore[attr-defined]
    with pytest.raises(GossamerError, match=rf"E-CONFIG: run\.yaml: {kind.name}\.{field}: "):  # type: ignore[attr-defined]
        Preprocessing.from_json([{"name": kind.name, **values}], "run.yaml")  # type: ignore[attr-defined]


def test_respacing_to_more_pixels_than_are_read_is_refused() -> None:
    step = Respace(1e-6, 2e-6)
    with pytest.raises(GossamerError, match="3000000x2000000") as caught:
        step(grey(np.zeros((3, 4), np.uint8), spacing_mm=(1.0, 1.0)))
    assert caught.value.code is ErrorCode.LIMIT


@pytest.mark.parametrize(
    ("steps", "size"),
    [
        ((Resize(7, 5), Standardize(0.4, 0.2)), (7, 5)),
        ((FitWithin(7, 5), Pad(9, 8)), (9, 8)),
        ((Pad(9, 8), Resize(4, 3)), (4, 3)),
        ((Resize(7, 5), Respace(1.0, 2.0)), None),
        ((FitWithin(7, 5),), None),
        ((Channels(1),), None),
    ],
)
def test_the_size_that_every_image_comes_to(steps: tuple[object, ...], size: tuple[int, int] | None) -> None:
    assert Preprocessing(steps).output_size == size


def test_an_image_cannot_be_changed() -> None:
    image = grey(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        image.array[0, 0] = 1
    with pytest.raises(ValueError, match="axes"):
        Image(np.zeros((2, 2, 2)), ("rows", "columns"), source="x")
    with pytest.raises(ValueError, match="spacing"):
        grey(np.zeros((2, 2)), spacing_mm=(1.0, float("nan")))
