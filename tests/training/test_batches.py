"""No image is lost or drawn twice, on any number of processes, in an order that follows from seed and epoch alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.training.augment import Augmenter
from gossamer.training.batches import EpochBatches, ValidationShard
from gossamer.training.recipe import Augmentation


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 97), st.integers(1, 40), st.integers(1, 5), st.integers(0, 3))
def test_every_image_counts_once_an_epoch(count: int, size: int, processes: int, epoch: int) -> None:
    samplers = [EpochBatches(count, size, 7, rank, processes) for rank in range(processes)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    ranks = [list(sampler) for sampler in samplers]
    assert len({len(batches) for batches in ranks}) == 1
    assert all(batch for batches in ranks for batch in batches)
    drawn = Counter(d.index for batches in ranks for batch in batches for d in batch if d.share > 0)
    assert drawn == Counter(range(count))
    for step in zip(*ranks, strict=True):
        assert (
            sum(draw.share for batch in step for draw in batch) == 1
            or abs(sum(draw.share for batch in step for draw in batch) - 1) < 1e-9
        )
        assert sum(draw.share > 0 for batch in step for draw in batch) <= size


def test_processes_share_the_batches_of_one_process() -> None:
    alone = EpochBatches(50, 8, seed=3)
    pair = [EpochBatches(50, 8, 3, rank, 2) for rank in range(2)]
    for whole, left, right in zip(alone, *pair, strict=True):
        assert {d.index for d in whole} == {d.index for d in left} | {d.index for d in right}


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochBatches(40, 8, seed)
        sampler.set_epoch(epoch)
        return [draw.index for batch in sampler for draw in batch]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@given(st.integers(1, 50), st.integers(1, 6))
def test_validation_images_are_dealt_out_once(count: int, processes: int) -> None:
    seen = [index for rank in range(processes) for index in ValidationShard(count, rank, processes)]
    assert sorted(seen) == list(range(count))


def test_augmentation_is_a_function_of_its_seed() -> None:
    augmenter = Augmenter(Augmentation(flips="both"), (20, 24))
    image = torch.randn(2, 20, 24)
    first = augmenter(image, np.random.SeedSequence([0, 1]))
    augmenter(image, np.random.SeedSequence([5, 5]))
    assert torch.equal(first, augmenter(image, np.random.SeedSequence([0, 1])))
    assert not torch.equal(first, augmenter(image, np.random.SeedSequence([0, 2])))
    assert first.shape == image.shape
    assert type(first) is torch.Tensor


def test_nothing_is_changed_where_nothing_may_change() -> None:
    augmenter = Augmenter(Augmentation(0, 0, 0, 0, 0, 0), (8, 8))
    image = torch.randn(1, 8, 8)
    assert torch.equal(augmenter(image, np.random.SeedSequence(0)), image)


def test_there_are_no_flips_unless_asked_for() -> None:
    image = torch.linspace(-1, 1, 64).expand(1, 64, 64).contiguous()  # brighter to the right
    plain, flipping = (Augmenter(Augmentation(flips=flips), (64, 64)) for flips in ("none", "horizontal"))
    for seed in range(40):
        changed = plain(image, np.random.SeedSequence(seed))
        assert changed[..., 40:].mean() > changed[..., :24].mean()
    mirrored = [flipping(image, np.random.SeedSequence(seed)) for seed in range(40)]
    assert any(changed[..., 40:].mean() < changed[..., :24].mean() for changed in mirrored)
