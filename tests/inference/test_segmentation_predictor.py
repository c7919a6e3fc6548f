"""From an image to its masks: what an identity network says of a volume comes back voxel for voxel."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.data import Image, windows
from gossamer.data.transforms import Channels, Preprocessing, Respace
from gossamer.data.windows import add_neighbours
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.segmentation_metrics import case_metrics
from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow

CLASSES = ("one", "two", "three")


class Identity:
    """Says of a pixel of value k that it is of class k, or of the classes whose bits k has.

    Args:
        overlapping: whether values are bits.
        channel: which one is looked at.
    """

    def __init__(self, overlapping: bool, channel: int = 0) -> None:
        self.overlapping, self.channel = overlapping, channel
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits ``(batch, classes, rows, columns)``."""
        self.seen.append(images.shape)
        values = images[:, self.channel, None]
        if self.overlapping:
            bits = np.rint(values).astype(np.int64) >> np.arange(3)[:, None, None] & 1
            logits = 20.0 * (bits - 0.5)
        else:
            logits = -10.0 * np.square(values - np.arange(4)[:, None, None])
        return logits.astype(np.float32)


def model(
    window: tuple[int, int],
    stack: int = 1,
    *,
    overlapping: bool = False,
    channel: int | None = None,
    steps: tuple[object, ...] = (),
    overlap: float = 0.5,
) -> SegmentationPredictor:
    network = Identity(overlapping, stack // 2 if channel is None else channel)
    return SegmentationPredictor(
        network=network,
        preprocessing=Preprocessing(steps),
        windows=SlidingWindow(window, stack, overlap),
        classes=CLASSES,
        multi_label=overlapping,
    )


def volume(
    shape: tuple[int, ...] = (5, 23, 38), *, overlapping: bool = False, spacing: tuple[float, ...] | None = None
) -> Image:
    values = np.random.default_rng(0).integers(0, 8 if overlapping else 4, shape).astype(np.int16)
    return Image(values, ("slices", "rows", "columns")[-len(shape) :], "test", spacing_mm=spacing)


def planes_of(values: np.ndarray, overlapping: bool) -> np.ndarray:
    return np.stack([(values >> k & 1).astype(bool) if overlapping else values == k + 1 for k in range(3)])


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("stack", [1, 3, 5])
@pytest.mark.parametrize("window", [(23, 38), (8, 16), (16, 12), (32, 48), (40, 16), (7, 64)])
def test_a_volume_comes_back_voxel_for_voxel(window: tuple[int, int], stack: int, overlapping: bool) -> None:
    image = volume(overlapping=overlapping)
    found = model(window, stack, overlapping=overlapping).predict(image)
    np.testing.assert_array_equal(found.planes, planes_of(image.array, overlapping))
    assert (found.classes, found.overlapping, found.source) == (CLASSES, overlapping, "test")


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("shape", [(23, 38), (5, 7), (61, 9)])
def test_a_picture_comes_back_pixel_for_pixel(shape: tuple[int, int], overlapping: bool) -> None:
    image = volume(shape, overlapping=overlapping)
    found = model((16, 24), overlapping=overlapping).predict(image)
    np.testing.assert_array_equal(found.planes, planes_of(image.array, overlapping))


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
def test_batches_and_overlap_do_not_matter(batch: int, overlap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BATCH", batch)
    image = volume((7, 30, 41))
    asked = model((16, 12), 3, overlap=overlap)
    np.testing.assert_array_equal(asked.predict(image).planes, planes_of(image.array, False))
    assert isinstance(asked.network, Identity)
    assert {shape[1:] for shape in asked.network.seen} == {(3, 16, 12)}
    assert max(shape[0] for shape in asked.network.seen) <= batch


@pytest.mark.parametrize(("stack", "channel", "step"), [(3, 0, -1), (3, 2, 1), (5, 0, -2), (5, 3, 1)])
def test_channels_are_neighbouring_slices_with_repeated_ends(stack: int, channel: int, step: int) -> None:
    image = volume((6, 11, 13))
    found = model((16, 16), stack, channel=channel).predict(image)
    index = np.clip(np.arange(6) + step, 0, 5)
    np.testing.assert_array_equal(found.planes, planes_of(image.array, False)[:, index])


def test_the_channels_of_an_image_stay_together_in_a_stack() -> None:
    stack = np.arange(4 * 2 * 3 * 5, dtype=np.float32).reshape(4, 2, 3, 5)
    wide = add_neighbours(stack, 3)
    assert wide.shape == (4, 6, 3, 5)
    np.testing.assert_array_equal(wide[1], np.concatenate(stack[:3]))
    np.testing.assert_array_equal(wide[0], np.concatenate([stack[0], stack[0], stack[1]]))
    assert add_neighbours(stack, 1) is stack


def ball(shape: tuple[int, int, int]) -> np.ndarray:
    """A disc on every slice, wide enough to be known on a coarser grid."""
    _, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    return np.hypot((y - shape[1] / 2 + 0.5) / shape[1], (x - shape[2] / 2 + 0.5) / shape[2]) < 0.4


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("window", [(128, 128), (32, 48)])
@pytest.mark.parametrize("spacing_mm", [(3.0, 0.7, 1.6), (2.0, 1.5, 1.5), (2.0, 0.5, 0.6)])
def test_masks_of_a_respaced_volume_land_on_its_own_grid(
    spacing_mm: tuple[float, float, float],
    window: tuple[int, int],
    overlapping: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(windows, "BATCH", 4)  # the slices come in several groups
    disc = ball((5, 84, 67))
    image = Image(disc.astype(np.int16), ("slices", "rows", "columns"), "test", spacing_mm=spacing_mm)
    asked = model(window, 3, overlapping=overlapping, steps=(Channels(1), Respace(1.0, 1.0)))
    found = asked.predict(image)
    assert found.planes.shape == (3, 5, 84, 67)
    truth = type(found)(np.stack([disc, disc & False, disc & False]), CLASSES, overlapping, "truth")
    dice = case_metrics(found, truth, spacing_mm, distances=False)["dice"]
    assert dice[0] > 0.98
    assert not found.planes[1:].any()
    np.testing.assert_array_equal(found.planes[:, :, ::-1, ::-1], found.planes)  # no half a pixel to a side


def test_every_slice_of_a_respaced_volume_goes_to_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BATCH", 2)
    coarse = np.random.default_rng(3).integers(0, 4, (7, 6, 5)).astype(np.int16)
    image = Image(
        coarse.repeat(8, axis=1).repeat(8, axis=2), ("slices", "rows", "columns"), "test", spacing_mm=(3.0, 1.0, 1.0)
    )
    found = model((32, 24), steps=(Respace(0.5, 0.5),)).predict(image)
    agree = found.indices() == image.array
    assert agree.mean() > 0.9
    np.testing.assert_array_equal(agree[:, 4::8, 4::8], True)


def test_missing_spacing_is_refused_if_the_model_needs_it() -> None:
    with pytest.raises(GossamerError) as caught:
        model((16, 16), steps=(Respace(1.0, 1.0),)).predict(volume())
    assert caught.value.code is ErrorCode.GEOMETRY


@pytest.mark.parametrize(("stack", "overlap"), [(0, 0.5), (2, 0.5), (-1, 0.5), (1, 1.0), (1, -0.1)])
def test_window_settings_outside_of_their_range_are_refused(stack: int, overlap: float) -> None:
    with pytest.raises(GossamerError) as caught:
        SlidingWindow((16, 16), stack, overlap)
    assert caught.value.code is ErrorCode.CONFIG
