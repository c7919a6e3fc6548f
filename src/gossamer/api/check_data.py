"""``gossamer.check_data``: the contents of a data set, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments
from gossamer.data import open_dataset
from gossamer.data.checking.check import check_dataset
from gossamer.data.checking.result import DatasetCheck
from gossamer.progress import Progress


@checked_arguments
def check_data(
    path: str | Path, *, seed: int = 0, strict: bool = False, progress: bool | Progress | None = None
) -> DatasetCheck:
    """Report the contents of a data set, and what is wrong with it.

    The layout is recognized, every image is read once, with its masks, and files that cannot be read, missing labels,
    equal images and patients in several splits are reported. ``ok`` of the result says whether a network can be
    trained on the data.

    Args:
        path: MedMNIST npz file, folder of class folders, CSV manifest, or images with masks.
        seed: Seed of the splits that the data do not state (default: 0).
        strict: Whether equal images in several splits make the data set unfit for training (default: False).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Raises:
        GossamerError: ``E-MISSING`` for a path without data, ``E-FORMAT`` for an unknown layout, or the error of a
            table of labels that cannot be read.
    """
    return check_dataset(open_dataset(path, seed=seed), strict=strict, progress=choose_progress(progress))
