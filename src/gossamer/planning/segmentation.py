"""Candidates for segmentation: a call of the network for each window of each slice."""

from __future__ import annotations

import math

from gossamer.data import SegmentationDataset
from gossamer.data.preparation.segmentation import (
    SegmentationSurvey,
    choose_image_size,
    choose_spacing,
    survey_dataset,
)
from gossamer.data.windows import window_starts
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.models import NetworkConfig
from gossamer.training.options import TrainOptions
from gossamer.training.resolve_model import NetworkChoice
from gossamer.training.segmentation.plan import DEFAULT_STACK, build_model


def survey_data(dataset: SegmentationDataset, seed: int) -> SegmentationSurvey:
    """Return what a sample of the training cases shows.

    Args:
        dataset: Data set with a training split.
        seed: Seed of the sample.

    Raises:
        GossamerError: A case cannot be read.
    """
    return survey_dataset(dataset, seed)


def choose_size(found: SegmentationSurvey, choice: NetworkChoice) -> tuple[tuple[int, int], int, bool]:
    """Return the recipe's window, the number that sides are a multiple of, and whether larger windows are useful.

    A window that holds the largest slice gains only empty border by growing.

    Args:
        found: Survey of the training cases.
        choice: Network.
    """
    multiple = choice.described.input_requirements.multiple
    usual = choose_image_size(found, multiple)
    return usual, multiple, any(side > window for side, window in zip(found.largest, usual, strict=True))


def build_candidate(
    dataset: SegmentationDataset, found: SegmentationSurvey, choice: NetworkChoice, size: tuple[int, int]
) -> tuple[NetworkConfig, int]:
    """Return the configuration of a network with a window, and its number of calls for the median case.

    Args:
        dataset: Data set with a training split.
        found: Survey of the training cases.
        choice: Network.
        size: Rows and columns of the window.

    Raises:
        GossamerError: The network does not accept the size or the mechanism.
    """
    inference = SlidingWindow(size, DEFAULT_STACK if dataset.volumes else 1)
    return build_model(dataset, found, TrainOptions(), choice, inference)[0], count_windows(found, inference)


def count_windows(found: SegmentationSurvey, inference: SlidingWindow) -> int:
    """Return the number of windows of the median case: all slices, and the windows of each.

    Args:
        found: Survey of the training cases.
        inference: Window and overlap.
    """
    scale = (1.0, 1.0)
    if found.spacings_differ and found.spacing_mm is not None:
        target = choose_spacing(found)
        scale = (found.spacing_mm[0] / target[0], found.spacing_mm[1] / target[1])
    sides = [round(side * factor) for side, factor in zip(found.shape, scale, strict=True)]
    each = [
        len(window_starts(side, window, inference.overlap))
        for side, window in zip(sides, inference.window, strict=True)
    ]
    return found.slices * math.prod(each)
