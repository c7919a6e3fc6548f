"""TransUNet's lists of the Synapse multi-organ CT: training slices as npz, test volumes as HDF5.

Chen et al., "TransUNet", arXiv 2102.04306. Intensities were clipped to -125..275 HU and scaled to 0..1 when the files
were made; the slices of a case are stacked here to the volume that they came from.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gossamer.data.dataset import Sample, patient_faults
from gossamer.data.image import Image
from gossamer.data.io.hdf5 import read_hdf5
from gossamer.data.io.npz import read_arrays
from gossamer.data.label_map import LabelMap
from gossamer.data.segmentation import LabelledCase, SegmentationDataset
from gossamer.data.split import complete_splits, sort_samples
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_bytes

# The files hold numbers only; the order of the names is published with them.
CLASS_NAMES = (
    "aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach",
)  # fmt: skip

_LISTS = ("lists/lists_Synapse", "lists_Synapse", ".")
_KEYS = ("image", "label")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SLICE = re.compile(r"(.+)_slice(\d+)")


def is_synapse(path: Path) -> bool:
    """Return whether ``path`` is a folder with ``train_npz`` and a list ``train.txt`` of TransUNet."""
    return (path / "train_npz").is_dir() and _find_lists(path) is not None


def open_synapse(path: Path, seed: int) -> SegmentationDataset:
    """Return the data set of TransUNet's lists: a case is a volume and a patient. Missing files become its faults.

    The cases of ``test_vol.txt`` are the test split; validation cases are drawn from the training ones.

    Raises:
        GossamerError: ``E-SYNTAX`` for a line that is not the name of a slice or case, ``E-SECURITY`` for a path,
            ``E-LABEL`` for a duplicate line, ``E-MISSING`` for empty lists.
    """
    lists = _find_lists(path) or path
    slices: dict[str, dict[int, Path]] = defaultdict(dict)
    for name in _read_names(lists / "train.txt", ".npz"):
        match = _SLICE.fullmatch(name)
        if not match:
            raise GossamerError(
                ErrorCode.SYNTAX, lists / "train.txt", f"{name!r} is not <case>_slice<number>", "correct the list"
            )
        if int(match[2]) in slices[match[1]]:
            problem = f"slice {int(match[2])} of {match[1]} is listed twice"
            raise GossamerError(ErrorCode.LABEL, lists / "train.txt", problem, "remove one of the lines")
        slices[match[1]][int(match[2])] = path / "train_npz" / f"{name}.npz"
    if not slices:
        raise GossamerError(ErrorCode.MISSING, lists / "train.txt", "does not name a slice", "write one name per line")
    files = {f"train_npz/{case}": tuple(found[n] for n in sorted(found)) for case, found in slices.items()}
    samples = [Sample(f"train_npz/{case}", (), "train", case) for case in slices]
    notes = [Note(ErrorCode.LABEL, str(path), "the class names are those published for this data set")]
    notes += [
        Note(
            ErrorCode.GEOMETRY, str(lists / "train.txt"), f"{case} has {len(found)} slices, numbered up to {max(found)}"
        )
        for case, found in slices.items()
        if sorted(found) != list(range(min(found), max(found) + 1))
    ]
    if (lists / "test_vol.txt").is_file():
        for case in _read_names(lists / "test_vol.txt", ".npy.h5"):
            samples.append(Sample(f"test_vol_h5/{case}", (), "test", case))
            files[f"test_vol_h5/{case}"] = (path / "test_vol_h5" / f"{case}.npy.h5",)
    faults = [
        GossamerError(ErrorCode.MISSING, file, "is listed, but does not exist", "add the file")
        for found in files.values()
        for file in found
        if not file.is_file()
    ]
    samples, decided = complete_splits(samples, seed)
    if decided:
        notes.append(Note(ErrorCode.LABEL, str(path), decided))
    final = sort_samples(samples)
    return SegmentationDataset(
        source=str(path),
        layout="synapse",
        classes=CLASS_NAMES,
        samples=final,
        overlapping=False,
        volumes=True,
        normalize="dataset",
        reader=_SynapseReader(files),
        faults=(*faults, *patient_faults(str(path), final)),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _SynapseReader:
    files: dict[str, tuple[Path, ...]]

    def __call__(self, sample: Sample) -> LabelledCase:
        files = self.files[sample.id]
        if sample.id.startswith("train_npz/"):
            slices = [_read_checked(file, 2) for file in files]
            for file, (pixels, _) in zip(files, slices, strict=True):
                if pixels.shape != slices[0][0].shape:
                    problem = f"has {pixels.shape} pixels, {files[0].name} has {slices[0][0].shape}"
                    raise GossamerError(ErrorCode.GEOMETRY, file, problem, "export the case on one grid")
            pixels, labels = (np.stack(planes) for planes in zip(*slices, strict=True))
            source = f"{files[0].parent}/{Path(sample.id).name}"
        else:
            pixels, labels = _read_checked(files[0], 3)
            source = str(files[0])
        image = Image(pixels, ("slices", "rows", "columns"), source=source)
        return LabelledCase(image, LabelMap.from_indices(labels, CLASS_NAMES, source))


def _read_checked(file: Path, axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the checked pixels and label numbers (uint8) of a file."""
    arrays = read_arrays(file, _KEYS) if file.suffix == ".npz" else read_hdf5(file, _KEYS)
    for key in _KEYS:
        if key not in arrays:
            problem = f"has no key {key}; it has {', '.join(sorted(arrays)) or 'none of the known keys'}"
            raise GossamerError(ErrorCode.LABEL, file, problem, "save image and label together")
        if arrays[key].ndim != axes or arrays[key].dtype.kind not in "uif" or not arrays[key].size:
            problem = f"{key} is {arrays[key].dtype} {arrays[key].shape}, not numbers along {axes} axes"
            raise GossamerError(ErrorCode.LABEL, file, problem, "correct the array")
    pixels, labels = (arrays[key] for key in _KEYS)
    if pixels.shape != labels.shape:
        problem = f"image has the shape {pixels.shape}, label {labels.shape}"
        raise GossamerError(ErrorCode.GEOMETRY, file, problem, "export both on one grid")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        problem = f"{int(pixels.size - np.isfinite(pixels).sum())} of {pixels.size} pixels are NaN or infinite"
        raise GossamerError(ErrorCode.VALUE, file, problem, "replace them, or exclude the case")
    known = np.isin(labels, np.arange(len(CLASS_NAMES) + 1))
    if not known.all():
        problem = f"the value {labels[~known][0]:g} has no name; the known values are 0 to {len(CLASS_NAMES)}"
        raise GossamerError(ErrorCode.LABEL, file, problem, "correct the mask")
    return pixels, labels.astype(np.uint8)


def _find_lists(path: Path) -> Path | None:
    """Return the folder of the lists, or None."""
    return next((path / folder for folder in _LISTS if (path / folder / "train.txt").is_file()), None)


def _read_names(file: Path, ending: str) -> list[str]:
    """Return the names in a list, one per line, without the suffix that some lists have."""
    try:
        lines = read_bytes(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise GossamerError(ErrorCode.FORMAT, file, f"is not UTF-8 ({error.reason})", "save it as UTF-8") from error
    names = [line.strip().removesuffix(ending) for line in lines if line.strip()]
    for number, name in enumerate(names, start=1):
        if not _NAME.fullmatch(name):
            problem = f"name {number}, {name!r}, is not letters, digits, dots and dashes"
            raise GossamerError(ErrorCode.SECURITY, file, problem, "name files inside the folder")
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice:
        raise GossamerError(ErrorCode.LABEL, file, f"{twice!r} is listed twice", "remove one of the lines")
    return names
