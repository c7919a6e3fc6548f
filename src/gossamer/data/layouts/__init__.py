"""Folders and files that are recognized as labelled data sets.

Owns the meaning of folders, names and tables: one file a layout, and the table ``LAYOUTS`` of all of them. Does not own
file formats. To add a layout: write one file with functions ``is_<layout>`` and ``open_<layout>``, and add one entry to
``LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from gossamer.arguments import checked_arguments
from gossamer.checks import require
from gossamer.data.classification import ClassificationDataset
from gossamer.data.layouts import (
    class_folders,
    decathlon,
    manifest,
    mask_archive,
    medmnist,
    paired_folders,
    rle_csv,
    synapse,
)
from gossamer.data.segmentation import SegmentationDataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.task import TaskName


@dataclass(frozen=True)
class Layout:
    """One arrangement of labelled images on a disk.

    Attributes:
        looks_like: Description for messages.
        is_recognized: Function that tells whether a path holds this layout, from names only.
        open: Function that reads the labels and returns the data set; the seed decides splits that the data do not
            state.
        task: ``classify`` for labels of images, ``segment`` for labels of pixels.
    """

    looks_like: str
    is_recognized: Callable[[Path], bool]
    open: Callable[[Path, int], ClassificationDataset | SegmentationDataset]
    task: TaskName


# In the order in which they are tried: images with masks first, since their tests are stricter.
LAYOUTS: dict[str, Layout] = {
    "decathlon": Layout(
        "a Medical Segmentation Decathlon or nnU-Net folder with a dataset.json, imagesTr and labelsTr",
        decathlon.is_decathlon,
        decathlon.open_decathlon,
        "segment",
    ),
    "synapse": Layout(
        "TransUNet's Synapse folder with train.txt, train_npz and test_vol_h5",
        synapse.is_synapse,
        synapse.open_synapse,
        "segment",
    ),
    "paired_folders": Layout(
        "a folder with images/<name> and masks/<name>",
        paired_folders.is_paired_folders,
        paired_folders.open_paired_folders,
        "segment",
    ),
    "rle_csv": Layout(
        "a folder with a train.csv (id,class,segmentation) and train/<case>/<study>/scans/slice_*.png",
        rle_csv.is_rle_csv,
        rle_csv.open_rle_csv,
        "segment",
    ),
    "mask_archive": Layout(
        "a .npz file with train_images and train_masks",
        mask_archive.is_mask_archive,
        mask_archive.open_mask_archive,
        "segment",
    ),
    "medmnist": Layout("a MedMNIST .npz file", medmnist.is_medmnist, medmnist.open_medmnist, "classify"),
    "manifest": Layout(
        "a .csv file with the columns path,label[,patient,split], or a folder with a manifest.csv",
        manifest.is_manifest,
        manifest.open_manifest,
        "classify",
    ),
    "class_folders": Layout(
        "a folder <class>/<image>, or train|val|test/<class>/<image>",
        class_folders.is_class_folders,
        class_folders.open_class_folders,
        "classify",
    ),
}

_LACKS: dict[TaskName, str] = {"segment": "has no masks", "classify": "has masks, and no labels of whole images"}


@overload
def open_dataset(path: Path | str, *, seed: int = 0, task: Literal["classify"]) -> ClassificationDataset: ...
@overload
def open_dataset(path: Path | str, *, seed: int = 0, task: Literal["segment"]) -> SegmentationDataset: ...
@overload
def open_dataset(
    path: Path | str, *, seed: int = 0, task: None = None
) -> ClassificationDataset | SegmentationDataset: ...
@checked_arguments
def open_dataset(
    path: Path | str, *, seed: int = 0, task: TaskName | None = None
) -> ClassificationDataset | SegmentationDataset:
    """Recognize the layout of ``path`` and return its data set. Labels are read; pixels are not, or few of them.

    Args:
        path: File or folder in one of ``LAYOUTS``.
        seed: Seed of the splits that the data do not state (default: 0).
        task: ``classify`` for a ``ClassificationDataset``, ``segment`` for a ``SegmentationDataset``; default:
            whichever is recognized.

    Raises:
        GossamerError: ``E-MISSING`` for a path without data, ``E-FORMAT`` if no layout fits, or only one of the other
            task, and the errors of the layout.
    """
    path = Path(path)
    require(seed >= 0, "seed", f"{seed} is negative", "use 0 or more")
    if not path.exists():
        raise GossamerError(ErrorCode.MISSING, path, "no such file or folder", "check the path")
    if path.is_dir() and not any(path.iterdir()):
        raise GossamerError(ErrorCode.MISSING, path, "the folder is empty", f"fill it as {_list_layouts(task)}")
    found = [name for name, layout in LAYOUTS.items() if layout.is_recognized(path)]
    if len(found) > 1 and "class_folders" in found:
        found.remove("class_folders")  # any folders of images look like classes, also images/ and masks/
    for name in found:
        if task in (None, LAYOUTS[name].task):
            return LAYOUTS[name].open(path, seed)
    problem = "is not a known layout of labelled images"
    if found and task is not None:
        problem = f"is {found[0]}, which {_LACKS[task]}"
    raise GossamerError(ErrorCode.FORMAT, path, problem, f"arrange it as {_list_layouts(task)}")


def _list_layouts(task: TaskName | None) -> str:
    return ", or ".join(layout.looks_like for layout in LAYOUTS.values() if task in (None, layout.task))
