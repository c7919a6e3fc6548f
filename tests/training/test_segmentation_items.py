"""What segmentation draws: a function of seed and epoch, windows on the foreground, image and mask changed alike."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from gossamer.data import Sample
from gossamer.data.preparation.segmentation import PreparedCase, PreparedCases
from gossamer.data.windows import add_neighbours, blend_bands, cut_window
from gossamer.inference.segmentation import SlidingWindow
from gossamer.training.augment import MaskAugmenter
from gossamer.training.batches import Batch, DrawnItem, EpochBatches
from gossamer.training.recipe import Augmentation, Flips
from gossamer.training.segmentation.items import TrainingSlices, ValidationCases, decode_planes

STILL = Augmentation(0, 0, 0, 0, 0, 0, foreground=0.5)
MOVING = dataclasses.replace(Augmentation(flips="both"), contrast=0, brightness=0, noise=0)


def disc(shape: tuple[int, int], centre: Sequence[float] | np.ndarray, radius: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) < radius


def prepared(
    sizes: Sequence[tuple[int, int, int]], channels: int = 1, *, painted: bool = True, bits: bool = False
) -> PreparedCases:
    """Cases whose slices show the codes of their masks, the number of the channel added, or noise."""
    cases = []
    for number, (slices, rows, columns) in enumerate(sizes):
        generator = np.random.default_rng(number)
        codes = np.zeros((slices, rows, columns), np.uint8)
        for index, code in itertools.product(range(slices), (1, 2)):
            there = disc((rows, columns), generator.uniform(0.2, 0.8, 2) * (rows, columns), min(rows, columns) / 5)
            codes[index] = codes[index] | code * there if bits else np.where(there, code, codes[index])
        pictures = codes if painted else generator.normal(size=codes.shape)
        stack = np.stack([pictures + 10 * channel for channel in range(channels)], axis=1).astype(np.float16)
        cases.append(PreparedCase(Sample(f"case{number}", (), "train"), stack, codes, ""))
    return PreparedCases(tuple(cases), ())


def drawn_from(
    data: PreparedCases,
    window: tuple[int, int],
    augmentation: Augmentation = STILL,
    stack: int = 1,
    *,
    overlapping: bool = False,
    seed: int = 0,
) -> TrainingSlices:
    options = {"foreground": 2, "overlapping": overlapping, "seed": seed}
    return TrainingSlices(data, MaskAugmenter(augmentation), SlidingWindow(window, stack), **options)


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_draw_is_a_function_of_seed_epoch_and_slice() -> None:
    data = prepared([(3, 40, 50), (2, 36, 60)], painted=False)
    one, other = (drawn_from(data, (24, 32), Augmentation(flips="both"), 3) for _ in range(2))
    another = drawn_from(data, (24, 32), Augmentation(flips="both"), 3, seed=1)
    assert len(one) == 5
    assert one.slice_names() == ["case0 slice 0", "case0 slice 1", "case0 slice 2", "case1 slice 0", "case1 slice 1"]
    for index in reversed(range(5)):
        first = one[DrawnItem(4, index, 0.25)]
        other[DrawnItem(1, index, 1.0)]  # what was drawn before does not matter
        assert equal(first, other[DrawnItem(4, index, 0.25)])
        assert first.images.shape == (3, 24, 32)
        assert first.targets.shape == (1, 24, 32)
        assert (float(first.shares), int(first.indices)) == (0.25, index)
        assert not torch.equal(first.images, one[DrawnItem(5, index, 0.25)].images)
        assert not torch.equal(first.images, another[DrawnItem(4, index, 0.25)].images)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_asked_share_of_windows_holds_a_class(share: float) -> None:
    """The class is a spot that a window at random hardly ever meets."""
    data = prepared([(1, 150, 170)])
    codes = np.where(disc((150, 170), (50.0, 120.0), 2.5), 2, 0)[None].astype(np.uint8)
    data = PreparedCases((dataclasses.replace(data.cases[0], codes=codes),), ())
    slices = drawn_from(data, (16, 12), dataclasses.replace(STILL, foreground=share))
    found = [np.argwhere(slices[DrawnItem(epoch, 0, 1.0)].targets[0].numpy()) for epoch in range(400)]
    held = [len(places) > 0 for places in found]
    by_chance = 20 * 16 / (135 * 159)
    wanted = share + (1 - share) * by_chance
    assert np.mean(held) == pytest.approx(wanted, abs=3.5 * np.sqrt(wanted * (1 - wanted) / 400) + 1e-9)
    if share == 1:  # wherever in the window
        assert set(np.concatenate(found)[:, 0]) == set(range(16))
        assert set(np.concatenate(found)[:, 1]) == set(range(12))
        middle = np.mean([places.mean(axis=0) for places in found], axis=0)
        np.testing.assert_allclose(middle, (7.5, 5.5), atol=0.8)


def test_windows_reach_every_corner_and_never_leave_the_slice() -> None:
    data = prepared([(1, 21, 18)])
    rows, columns = np.mgrid[:21, :18]
    stack = np.stack([rows, columns])[None].astype(np.float16)
    for codes in (np.zeros((1, 21, 18), np.uint8), np.ones((1, 21, 18), np.uint8)):
        case = dataclasses.replace(data.cases[0], slices=stack, codes=codes)
        slices = drawn_from(PreparedCases((case,), ()), (16, 12))
        corners = Counter()
        for epoch in range(500):
            image = slices[DrawnItem(epoch, 0, 1.0)].images
            corner = int(image[0, 0, 0]), int(image[1, 0, 0])
            corners[corner] += 1
            assert torch.equal(image, torch.from_numpy(cut_window(stack[0], corner, (16, 12)).astype(np.float32)))
        assert set(corners) == set(itertools.product(range(6), range(7)))


@pytest.mark.parametrize("size", [(13, 20), (16, 19), (13, 60), (40, 19), (15, 11), (6, 17)])
def test_small_slices_are_centred_as_in_evaluation(size: tuple[int, int]) -> None:
    (given,) = prepared([(2, *size)]).cases
    ones = dataclasses.replace(given, slices=np.ones_like(given.slices))
    seen: list[np.ndarray] = []

    def look(windows: np.ndarray) -> np.ndarray:
        seen.extend(windows)
        return windows

    list(blend_bands(ones.slices.astype(np.float32), (16, 20), look))
    for foreground in (0.0, 1.0):
        slices = drawn_from(PreparedCases((ones,), ()), (16, 20), dataclasses.replace(STILL, foreground=foreground))
        np.testing.assert_array_equal(slices[DrawnItem(0, 0, 1.0)].images, seen[0])


@pytest.mark.parametrize("window", [(48, 40), (24, 36)])
def test_image_and_mask_move_together(window: tuple[int, int]) -> None:
    """The image is the mask painted: wherever both are changed, it still is, but for the blurred border."""
    slices = drawn_from(prepared([(4, 48, 40)]), window, MOVING)
    changed, agree, elsewhere = 0, [], []
    for epoch, index in itertools.product(range(15), range(4)):
        batch = slices[DrawnItem(epoch, index, 1.0)]
        painted = batch.images[0].round()
        agree.append(float((painted == batch.targets[0]).double().mean()))
        elsewhere.append(float((painted == batch.targets[0].roll((2, 2), (0, 1))).double().mean()))
        assert set(torch.unique(batch.targets).tolist()) <= {0, 1, 2}, "the mask holds no mixtures"
        changed += not torch.equal(batch.images[0], painted)
    assert changed > 50
    assert min(agree) > 0.95
    assert np.mean(agree) > 0.975
    assert np.mean(elsewhere) < 0.96


def test_overlapping_classes_become_a_map_each() -> None:
    slices = drawn_from(prepared([(3, 40, 34)], bits=True), (40, 34), MOVING, overlapping=True)
    both = 0
    for epoch, index in itertools.product(range(8), range(3)):
        batch = slices[DrawnItem(epoch, index, 1.0)]
        assert batch.targets.shape == (2, 40, 34)
        painted = batch.targets[0].int() + 2 * batch.targets[1].int()
        assert (batch.images[0].round() == painted).double().mean() > 0.95
        both += int((painted == 3).sum())
    assert both > 0


def test_neighbouring_slices_are_the_channels_and_stay_aligned() -> None:
    data = prepared([(4, 30, 26), (1, 30, 26)], channels=2)
    slices = drawn_from(data, (30, 26), stack=3)
    for index in range(4):
        images = slices[DrawnItem(0, index, 1.0)].images.numpy()
        wanted = [data.cases[0].slices[min(max(index + step, 0), 3)] for step in (-1, 0, 1)]
        np.testing.assert_array_equal(images, np.concatenate(wanted).astype(np.float32))
        np.testing.assert_array_equal(
            images, add_neighbours(data.cases[0].slices.astype(np.float32), 3)[index], "as in evaluation"
        )
    np.testing.assert_array_equal(slices[DrawnItem(0, 4, 1.0)].images[2:4], slices[DrawnItem(0, 4, 1.0)].images[:2])
    case = ValidationCases(data, 3)[0]
    np.testing.assert_array_equal(case.slices, add_neighbours(data.cases[0].slices.astype(np.float32), 3))
    np.testing.assert_array_equal(case.codes, data.cases[0].codes)


@pytest.mark.parametrize(("flips", "axes"), [("none", []), ("vertical", [1]), ("horizontal", [2]), ("both", [1, 2])])
def test_flips(flips: Flips, axes: list[int]) -> None:
    augmenter = MaskAugmenter(dataclasses.replace(STILL, flips=flips))
    image, mask = torch.randn(2, 5, 7), torch.randint(0, 3, (1, 5, 7)).float()
    allowed = [turned for count in range(len(axes) + 1) for turned in itertools.combinations(axes, count)]
    seen = set()
    for seed in range(40):
        changed, follows = augmenter(image, mask, np.random.SeedSequence(seed))
        (turned,) = [turn for turn in allowed if torch.equal(changed, image.flip(turn))]
        assert torch.equal(follows, mask.flip(turned))
        seen.add(turned)
    assert seen == set(allowed)


def moments(mask: torch.Tensor) -> tuple[float, float, float, float, float]:
    """Return area, centre ``(row, column)`` and standard deviations down and across."""
    rows, columns = (part.double() for part in torch.nonzero(mask[0], as_tuple=True))
    return len(rows), float(rows.mean()), float(columns.mean()), float(rows.std()), float(columns.std())


def test_a_rotation_keeps_shapes_on_windows_that_are_not_square() -> None:
    augmenter = MaskAugmenter(dataclasses.replace(STILL, rotation_degrees=40.0))
    mask = torch.from_numpy(disc((60, 110), (29.5, 80.0), 12.0)).float()[None]
    area, row, column, down, across = moments(mask)
    for seed in range(20):
        _, turned = augmenter(mask, mask, np.random.SeedSequence(seed))
        found = moments(turned)
        assert found[0] == pytest.approx(area, rel=0.03)
        assert found[3:] == pytest.approx((down, across), rel=0.03)
        away = np.hypot(found[1] - 29.5, found[2] - 54.5)
        assert away == pytest.approx(np.hypot(row - 29.5, column - 54.5), abs=0.3), "it turns about the middle"
        angle = np.degrees(np.arctan2(found[1] - 29.5, found[2] - 54.5))
        assert abs(angle) <= 40.5


def test_shifts_and_sizes_stay_within_what_was_asked() -> None:
    mask = torch.from_numpy(disc((60, 90), (29.5, 44.5), 10.0)).float()[None]
    area, row, column, down, across = moments(mask)
    shift, size = (
        MaskAugmenter(dataclasses.replace(STILL, **change)) for change in ({"translation": 0.1}, {"scale": 0.2})
    )
    places, ratios = [], []
    for seed in range(60):
        _, moved = shift(mask, mask, np.random.SeedSequence(seed))
        found = moments(moved)
        assert found[0] == area
        places.append((found[1] - row, found[2] - column))
        _, scaled = size(mask, mask, np.random.SeedSequence(seed))
        found = moments(scaled)
        assert (found[1], found[2]) == pytest.approx((row, column), abs=0.3)
        ratios.append((down / found[3], across / found[4]))
    far, wide = np.abs(places).max(axis=0), np.abs(np.array(ratios) - 1).max(axis=0)
    assert np.all((far > [4, 6]) & (far <= [6.5, 9.5])), far
    assert np.all((wide > 0.15) & (wide < 0.23)), wide


def test_brightness_changes_the_image_alone() -> None:
    augmenter = MaskAugmenter(dataclasses.replace(STILL, contrast=0.3, brightness=0.2))
    image, mask = torch.randn(2, 9, 11), torch.ones(1, 9, 11)
    for seed in range(30):
        changed, follows = augmenter(image, mask, np.random.SeedSequence(seed))
        assert torch.equal(follows, mask)
        gain = float((changed.max() - changed.min()) / (image.max() - image.min()))
        assert 0.7 <= gain <= 1.3
        torch.testing.assert_close(changed, image * gain + (changed - image * gain).mean(), rtol=0, atol=1e-4)
        assert abs(float((changed - image * gain).mean())) <= 0.2 + 1e-4
    noisy = MaskAugmenter(dataclasses.replace(STILL, noise=0.5))
    apart = [float((noisy(image, mask, np.random.SeedSequence(s))[0] - image).std()) for s in range(40)]
    assert 8 < sum(value == 0 for value in apart) < 32
    assert max(apart) == pytest.approx(0.5, rel=0.3)


def test_epochs_draw_the_given_number_of_different_slices() -> None:
    seen: list[list[int]] = []
    for epoch in range(3):
        ranks = [EpochBatches(50, 8, 5, rank, 2, draws=21) for rank in range(2)]
        for sampler in ranks:
            sampler.set_epoch(epoch)
        batches = [list(sampler) for sampler in ranks]
        assert {len(part) for part in batches} == {len(ranks[0])} == {3}
        drawn = [draw.index for part in batches for batch in part for draw in batch if draw.share > 0]
        assert len(drawn) == len(set(drawn)) == 21
        for step in zip(*batches, strict=True):
            assert sum(draw.share for batch in step for draw in batch) == pytest.approx(1)
        seen.append(sorted(drawn))
    assert seen[0] != seen[1] != seen[2]
    for draws in (None, 50, 99):
        assert sorted(d.index for batch in EpochBatches(50, 8, 5, draws=draws) for d in batch) == list(range(50))


def test_planes_and_windows() -> None:
    codes = torch.tensor([[[0, 1, 2], [3, 2, 0]], [[1, 0, 0], [0, 0, 3]]])
    numbers = decode_planes(codes, 3, overlapping=False)
    assert numbers.shape == (2, 3, 2, 3)
    assert torch.equal((numbers * torch.arange(1, 4)[None, :, None, None]).sum(dim=1), codes)
    bits = decode_planes(codes, 2, overlapping=True)
    assert torch.equal(bits[:, 0].int() + 2 * bits[:, 1].int(), codes.int())
    plane = np.arange(12).reshape(1, 3, 4) + 1
    np.testing.assert_array_equal(cut_window(plane, (1, 2), (2, 2)), [[[7, 8], [11, 12]]])
    np.testing.assert_array_equal(cut_window(plane, (-1, 2), (3, 3)), [[[0, 0, 0], [3, 4, 0], [7, 8, 0]]])
