"""The slices that segmentation trains on: a window of each, drawn and changed as seed and epoch say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gossamer.data.preparation.segmentation import PreparedCases
from gossamer.data.windows import add_neighbours, centred_start, cut_window, slice_with_neighbours
from gossamer.inference.segmentation import SlidingWindow
from gossamer.training.augment import MaskAugmenter
from gossamer.training.batches import Batch, Draw


class TrainingSlices(Dataset[Batch]):
    """A window of each slice of the training cases, changed at random as it is drawn.

    Args:
        prepared: the cases.
        augmenter: changes image and mask together.
        inference: the window and the neighbouring slices.
        foreground: number of classes besides the background.
        overlapping: whether a pixel may belong to several of them.
        seed: of the run.
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

    def names(self) -> list[str]:
        """Return the name of every slice."""
        return [f"{case.sample.id} slice {index}" for case, index in self.places]

    def __getitem__(self, draw: Draw) -> Batch:
        case, index = self.places[draw.index]
        image = slice_with_neighbours(case.slices, index, self.inference.stack)
        codes = case.codes[index]
        corner = self._corner(codes, np.random.default_rng([self.seed, draw.epoch, 3, draw.index]))
        image, codes = (cut_window(part, corner, self.inference.window) for part in (image, codes[None]))
        changed, mask = self.augmenter(
            torch.from_numpy(image.astype(np.float32)),
            torch.from_numpy(codes.astype(np.float32)),
            np.random.SeedSequence([self.seed, draw.epoch, 1, draw.index]),
        )
        target = mask.round().to(torch.int64)
        if self.overlapping:
            target = planes_of(target, self.foreground, overlapping=True)[0]
        return Batch(changed, target, torch.tensor(draw.share), torch.tensor(draw.index))

    def _corner(self, codes: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
        """Return the upper left corner of a window: half of them hold a foreground pixel, where there is one."""
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
    """A whole case: its slices as the network's channels, its codes, its number in the split."""

    slices: np.ndarray
    codes: np.ndarray
    index: int


class ValidationCases(Dataset[ValidationCase]):
    """The prepared validation cases as they are."""

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
        slices: of a case, ``(slices, channels, rows, columns)``.
        number: of the slice.
        inference: the window and the neighbouring slices.
    """
    rows, columns = (centred_start(*sides) for sides in zip(slices.shape[2:], inference.window, strict=True))
    seen = slice_with_neighbours(slices, number, inference.stack)
    return np.ascontiguousarray(cut_window(seen, (rows, columns), inference.window), dtype=np.float32)


def planes_of(codes: Tensor, foreground: int, overlapping: bool) -> Tensor:
    """Return bool ``(batch, classes, rows, columns)`` of codes ``(batch, rows, columns)``, background left out."""
    numbers = torch.arange(foreground)[None, :, None, None]
    if overlapping:
        return codes[:, None].bitwise_right_shift(numbers).bitwise_and(1).bool()
    return codes[:, None] == numbers + 1
