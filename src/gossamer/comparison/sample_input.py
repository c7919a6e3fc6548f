"""A real input to time a network on: with pruning, its work depends on what it sees."""

from __future__ import annotations

import numpy as np

from gossamer.data import ClassificationDataset, SegmentationDataset
from gossamer.data.preparation.classification import prepare_split
from gossamer.data.preparation.segmentation import prepare_split as prepare_cases
from gossamer.training.run_folder import RunConfig
from gossamer.training.segmentation.items import middle_window


def read_sample_input(run: RunConfig, dataset: ClassificationDataset | SegmentationDataset) -> np.ndarray:
    """Return one validation image as the network takes it: ``(1, channels, rows, columns)``, float32.

    Of a volume it is the window in the middle of the slice in the middle, with its neighbours.
    """
    sample = dataset.split("val")[:1]
    if isinstance(dataset, ClassificationDataset):
        return prepare_split(dataset, sample, run.preprocessing, run.classes).images
    assert run.inference is not None
    (case,) = prepare_cases(dataset, sample, run.preprocessing).cases
    return middle_window(case.slices, len(case.slices) // 2, run.inference)[None]
