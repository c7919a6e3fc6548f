"""Folders and files recognised as labelled data sets, by looking.

``LAYOUTS`` is the table of what can be recognised. To add a layout: one file with a ``recognises`` and an ``open``
function, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gossamer.data.datasets import class_folders, manifest, medmnist
from gossamer.data.datasets.check import DatasetCheck, check_dataset
from gossamer.data.datasets.dataset import SPLITS, Dataset, Sample
from gossamer.errors import ErrorCode, GossamerError


@dataclass(frozen=True)
class Layout:
    """One arrangement of labelled images on a disk.

    Attributes:
        looks_like: what a user would write to describe it.
        recognises: whether a path holds this layout; it looks at names only.
        open: reads the labels and returns the data set; the seed decides splits that the data do not state.
    """

    looks_like: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path, int], Dataset]


LAYOUTS: dict[str, Layout] = {
    "medmnist": Layout("a MedMNIST .npz file", medmnist.recognises, medmnist.open_medmnist),
    "manifest": Layout(
        "a .csv file with the columns path,label[,patient,split], or a folder with a manifest.csv",
        manifest.recognises,
        manifest.open_manifest,
    ),
    "class_folders": Layout(
        "a folder <class>/<image>, or train|val|test/<class>/<image>",
        class_folders.recognises,
        class_folders.open_class_folders,
    ),
}


def open_dataset(path: Path | str, *, seed: int = 0) -> Dataset:
    """Recognise the layout of ``path`` and return its data set. Labels are read, pixels are not.

    Args:
        path: a file or folder in one of ``LAYOUTS``.
        seed: decides splits where the data do not state them.

    Raises:
        GossamerError: ``E-MISSING`` when there is nothing, ``E-FORMAT`` when no layout fits, and what the layout
        raises.
    """
    path = Path(path)
    if not path.exists():
        raise GossamerError(ErrorCode.MISSING, path, "no such file or folder", "check the path")
    if path.is_dir() and not any(path.iterdir()):
        raise GossamerError(ErrorCode.MISSING, path, "the folder is empty", f"fill it as {_layouts()}")
    for layout in LAYOUTS.values():
        if layout.recognises(path):
            return layout.open(path, seed)
    raise GossamerError(
        ErrorCode.FORMAT, path, "no layout of labelled images is recognised", f"arrange it as {_layouts()}"
    )


def _layouts() -> str:
    return ", or ".join(layout.looks_like for layout in LAYOUTS.values())


__all__ = ["LAYOUTS", "SPLITS", "Dataset", "DatasetCheck", "Layout", "Sample", "check_dataset", "open_dataset"]
