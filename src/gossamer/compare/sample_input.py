"""A real input to time a network on: with pruning, its work depends on what it sees."""

from __future__ import annotations

import numpy as np

from gossamer.data import Dataset, SegmentationDataset
from gossamer.data.datasets.prepare import prepare
from gossamer.data.datasets.prepare_masks import prepare_masks
from gossamer.train.run import RunConfig
from gossamer.train.slices import middle_window


def sample_input(run: RunConfig, dataset: Dataset | SegmentationDataset) -> np.ndarray:
    """Return one validation image as the network takes it: ``(1, channels, rows, columns)``, float32.

    Of a volume it is the window in the middle of the slice in the middle, with its neighbours.
    """
    sample = dataset.split("val")[:1]
    if isinstance(dataset, Dataset):
        return prepare(dataset, sample, run.preprocessing, run.classes).images
    assert run.inference is not None
    (case,) = prepare_masks(dataset, sample, run.preprocessing).cases
    return middle_window(case.slices, len(case.slices) // 2, run.inference)[None]
