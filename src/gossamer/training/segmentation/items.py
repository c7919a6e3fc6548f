"""The slices that segmentation trains on, each through a window, and the cases that it validates with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gossamer.data import Sample, SegmentationDataset
from gossamer.data.preparation.segmentation import PreparedCases, absent_classes, prepare_split
from gossamer.data.windows import add_neighbours, centred_start, cut_window, slice_with_neighbours
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.segmentation import SlidingWindow
from gossamer.progress import SILENT, Progress
from gossamer.training.augment import MaskAugmenter
from gossamer.training.batches import Batch, DrawnItem
from gossamer.training.run_folder import RunConfig


class TrainingSlices(Dataset[Batch]):
    """A window of each slice of the training cases, placed and augmented as it is drawn.

    Args:
        prepared: Prepared training cases.
        augmenter: Random changes of image and mask together.
        inference: Window and number of neighbouring slices.
        foreground: Number of classes besides the background.
        overlapping: Whether a pixel may belong to several classes.
        seed: Seed of the run.
    """

    def __init__(
        self,
        prepared: PreparedCases,
        augmenter: MaskAugmenter,
        inference: SlidingWindow,
        *,
        foreground: int,
        overlapping: bool,
        seed: int,
    ) -> None:
        self.cases = prepared.cases
        self.places = [(case, index) for case in prepared.cases for index in range(len(case.slices))]
        self.augmenter = augmenter
        self.inference = inference
        self.foreground = foreground
        self.overlapping = overlapping
        self.seed = seed

    def __len__(self) -> int:
        return len(self.places)

    def slice_names(self) -> list[str]:
        """Return the name of every slice."""
        return [f"{case.sample.id} slice {index}" for case, index in self.places]

    def __getitem__(self, item: DrawnItem) -> Batch:
        case, index = self.places[item.index]
        image = slice_with_neighbours(case.slices, index, self.inference.stack)
        codes = case.codes[index]
        corner = self._choose_corner(codes, np.random.default_rng([self.seed, item.epoch, 3, item.index]))
        image, codes = (cut_window(part, corner, self.inference.window) for part in (image, codes[None]))
        changed, mask = self.augmenter(
            torch.from_numpy(image.astype(np.float32)),
            torch.from_numpy(codes.astype(np.float32)),
            np.random.SeedSequence([self.seed, item.epoch, 1, item.index]),
        )
        target = mask.round().to(torch.int64)
        if self.overlapping:
            target = decode_planes(target, self.foreground, overlapping=True)[0]
        return Batch(changed, target, torch.tensor(item.share), torch.tensor(item.index))

    def _choose_corner(self, codes: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
        """Return the upper left corner of a window; a share of the windows is placed on a foreground pixel."""
        free = [size - side for size, side in zip(codes.shape, self.inference.window, strict=True)]
        middle = [centred_start(*sides) for sides in zip(codes.shape, self.inference.window, strict=True)]
        if max(free) <= 0:
            return middle[0], middle[1]
        found = np.flatnonzero(codes) if generator.random() < self.augmenter.augmentation.foreground else codes[:0]
        if found.size:
            centre = np.unravel_index(int(generator.choice(found)), codes.shape)
            wanted = [
                int(c) - int(generator.integers(side)) for c, side in zip(centre, self.inference.window, strict=True)
            ]
        else:
            wanted = [int(generator.integers(max(room, 0) + 1)) for room in free]
        row, column = (
            min(max(w, 0), room) if room > 0 else start for w, room, start in zip(wanted, free, middle, strict=True)
        )
        return row, column


class ValidationCase(NamedTuple):
    """A whole validation case.

    Attributes:
        slices: ``(slices, channels, rows, columns)``, neighbours included in the channels.
        codes: ``(slices, rows, columns)``, codes of the classes.
        index: Number of the case in the split.
    """

    slices: np.ndarray
    codes: np.ndarray
    index: int


class ValidationCases(Dataset[ValidationCase]):
    """The prepared validation cases, unchanged."""

    def __init__(self, prepared: PreparedCases, stack: int) -> None:
        self.cases = prepared.cases
        self.stack = stack

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> ValidationCase:
        case = self.cases[index]
        return ValidationCase(add_neighbours(case.slices.astype(np.float32), self.stack), case.codes, index)


def middle_window(slices: np.ndarray, number: int, inference: SlidingWindow) -> np.ndarray:
    """Return the window in the middle of a slice with its neighbours, ``(channels, rows, columns)``, float32.

    Args:
        slices: Slices of a case, ``(slices, channels, rows, columns)``.
        number: Number of the slice.
        inference: Window and number of neighbouring slices.
    """
    rows, columns = (centred_start(*sides) for sides in zip(slices.shape[2:], inference.window, strict=True))
    seen = slice_with_neighbours(slices, number, inference.stack)
    return np.ascontiguousarray(cut_window(seen, (rows, columns), inference.window), dtype=np.float32)


def decode_planes(codes: Tensor, foreground: int, overlapping: bool) -> Tensor:
    """Return bool ``(batch, classes, rows, columns)`` of codes ``(batch, rows, columns)``, without the background."""
    numbers = torch.arange(foreground)[None, :, None, None]
    if overlapping:
        return codes[:, None].bitwise_right_shift(numbers).bitwise_and(1).bool()
    return codes[:, None] == numbers + 1


def prepare_samples(
    run: RunConfig, dataset: SegmentationDataset, samples: Sequence[Sample], progress: Progress = SILENT
) -> PreparedCases:
    """Return slices and codes of samples as training reads them.

    Raises:
        GossamerError: A case cannot be read or used.
    """
    return prepare_split(dataset, samples, run.preprocessing, progress)


def require_classes(run: RunConfig, train: PreparedCases) -> None:
    """Raise if no training mask holds some class: a network would learn that the class does not exist.

    Raises:
        GossamerError: ``E-LABEL``.
    """
    absent = absent_classes(train, run.classes, overlapping=run.multi_label)
    if absent:
        problem = f"no training mask holds {', '.join(absent)}"
        raise GossamerError(ErrorCode.LABEL, run.data, problem, "correct the masks, the splits or the names of classes")


def training_items(run: RunConfig, prepared: PreparedCases) -> TrainingSlices:
    """Return the slices of prepared cases with the windows and the augmentation of the run."""
    return TrainingSlices(
        prepared,
        MaskAugmenter(run.recipe.augmentation),
        run.windows,
        foreground=len(run.classes),
        overlapping=run.multi_label,
        seed=run.seed,
    )


def sample_input(run: RunConfig, prepared: PreparedCases) -> np.ndarray:
    """Return the middle window of the first case as the network takes it: ``(1, channels, rows, columns)``, float32."""
    slices = prepared.cases[0].slices
    return middle_window(slices, len(slices) // 2, run.windows)[None]
