"""The phantom is deterministic and not trivial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.api.demo import CHEST
from gossamer.data import open_dataset
from gossamer.data.synthetic.phantom import NODULE_RADIUS, draw_chest, write_phantom


def test_an_image_is_a_function_of_seed_and_number() -> None:
    first = draw_chest(0, 3, nodule=True, size=(24, 20))
    np.testing.assert_array_equal(first, draw_chest(0, 3, nodule=True, size=(24, 20)))
    assert first.dtype == np.uint16
    assert first.shape == (24, 20)
    assert first.max() <= 4095
    assert not np.array_equal(first, draw_chest(0, 4, nodule=True, size=(24, 20)))


def test_only_the_nodule_tells_the_classes_apart() -> None:
    clear, ill = (draw_chest(0, 3, nodule=nodule, size=(64, 64)).astype(int) for nodule in (False, True))
    changed = np.abs(clear - ill) > 40
    assert 5 < changed.sum() < 0.05 * changed.size


def test_a_larger_nodule_covers_more_and_leaves_the_anatomy_as_it_is() -> None:
    size = (48, 56)
    clear, usual, large = (
        draw_chest(0, 3, nodule=nodule, size=size, nodule_radius=radius).astype(int)
        for nodule, radius in ((False, (0.05, 0.085)), (True, (0.05, 0.085)), (True, (0.075, 0.12)))
    )
    np.testing.assert_array_equal(usual, draw_chest(0, 3, nodule=True, size=size))
    usual_pixels, large_pixels = (int((np.abs(other - clear) > 40).sum()) for other in (usual, large))
    assert 1.5 * usual_pixels < large_pixels < 0.1 * clear.size


@pytest.mark.parametrize("radius", [NODULE_RADIUS, CHEST.drawing["nodule_radius"]])
def test_brightness_alone_does_not_tell_them_apart(radius: tuple[float, float]) -> None:
    import torch
    from torchmetrics.functional.classification import binary_auroc

    images = [
        draw_chest(0, number, nodule=bool(number % 2), size=(32, 32), nodule_radius=radius) for number in range(200)
    ]
    truth = torch.arange(200) % 2
    for statistic in (np.mean, np.std, np.max):
        score = torch.tensor([float(statistic(image)) for image in images])
        area = float(binary_auroc((score - score.min()) / (score.max() - score.min()), truth))
        assert 0.3 < area < 0.7, statistic


def test_a_written_phantom_is_a_data_set(tmp_path: Path) -> None:
    dataset = open_dataset(write_phantom(tmp_path / "p", count=40, size=(16, 24), seed=2))
    assert len(dataset.samples) == 40
    assert dataset.faults == ()
    assert dataset.read(dataset.samples[0]).array.shape == (16, 24)
    again = write_phantom(tmp_path / "q", count=40, size=(16, 24), seed=2)
    for sample in dataset.samples:
        assert (tmp_path / "p" / sample.id).read_bytes() == (again / sample.id).read_bytes()
