"""MedMNIST-like archives with masks: ``train_images``, ``train_masks``, and the same for ``val`` and ``test``.

Masks are whole numbers ``(n, rows, columns)``; they may also be called ``train_labels``, as MedMNIST calls its labels,
where they have the shape of the images.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gossamer.data.cases.mask_values import NAMES_FILE, MaskValues, decide_values, read_names, value_note
from gossamer.data.dataset import SPLITS, Sample
from gossamer.data.io.npz import member_shapes, read_arrays
from gossamer.data.layouts.medmnist import ArchiveReader, archive_id, check_images
from gossamer.data.segmentation import LabelledCase, SegmentationDataset
from gossamer.data.split import complete_splits, sort_samples
from gossamer.errors import ErrorCode, GossamerError, Note


def is_mask_archive(path: Path) -> bool:
    """Return whether ``path`` is an npz file with ``train_masks``, or ``train_labels`` of the shape of images.

    A damaged archive is recognized too, so that opening it reports the damage.
    """
    if not path.is_file() or path.suffix.lower() != ".npz":
        return False
    if not zipfile.is_zipfile(path):
        return True
    shapes = member_shapes(path)
    return "train_masks" in shapes or len(shapes.get("train_labels", ())) >= 3


def open_mask_archive(path: Path, seed: int) -> SegmentationDataset:
    """Return the data set of an archive. A missing validation split is drawn.

    Raises:
        GossamerError: ``E-FORMAT``, ``E-INTEGRITY``, ``E-LIMIT``, ``E-SECURITY`` for an object array, ``E-LABEL`` for
            missing or contradictory keys, ``E-GEOMETRY`` for masks whose shape differs from that of the images.
    """
    part = "masks" if "train_masks" in member_shapes(path) else "labels"
    arrays = read_arrays(path, {f"{split}_{kind}" for split in SPLITS for kind in ("images", part)})
    present = [s for s in SPLITS if s == "train" or f"{s}_images" in arrays or f"{s}_{part}" in arrays]
    masks = {split: _check_masks(path, arrays, split, part) for split in present}
    names = path.with_name(NAMES_FILE)
    values = read_names(names) if names.is_file() else _decide_values(list(masks.values()))
    samples = [
        Sample(archive_id(split, index, len(stack)), (), split)
        for split, stack in masks.items()
        for index in range(len(stack))
    ]
    samples, decided = complete_splits(samples, seed)
    images = ArchiveReader(str(path), {split: arrays[f"{split}_images"] for split in present})
    return SegmentationDataset(
        source=str(path),
        layout="mask_archive",
        classes=values.classes,
        samples=sort_samples(samples),
        overlapping=False,
        volumes=False,
        reader=_MaskArchiveReader(images, masks, values),
        notes=(*value_note(str(path), values), *([Note(ErrorCode.LABEL, str(path), decided)] if decided else [])),
    )


@dataclass(frozen=True)
class _MaskArchiveReader:
    images: ArchiveReader
    masks: Mapping[str, np.ndarray]
    values: MaskValues

    def __call__(self, sample: Sample) -> LabelledCase:
        split, index = sample.id.split("/")
        image = self.images(sample)
        return LabelledCase(image, self.values.label_map(self.masks[split][int(index)], image.source))


def _check_masks(path: Path, arrays: Mapping[str, np.ndarray], split: str, part: str) -> np.ndarray:
    """Return the masks of a split as ``(n, rows, columns)``, checked against its images."""
    for key in (f"{split}_images", f"{split}_{part}"):
        if key not in arrays:
            problem = f"has no key {key}; it has {', '.join(sorted(arrays)) or 'none of the known keys'}"
            raise GossamerError(ErrorCode.LABEL, path, problem, f"save <split>_images and <split>_{part} together")
    images, masks = arrays[f"{split}_images"], arrays[f"{split}_{part}"]
    check_images(path, f"{split}_images", images)
    masks = masks[..., 0] if masks.ndim == 4 and masks.shape[-1] == 1 else masks
    if masks.ndim != 3 or masks.dtype.kind not in "uib" or masks.min(initial=0) < 0:
        problem = f"{split}_{part} is {masks.dtype} {masks.shape}, not whole numbers from 0 of shape (n, rows, columns)"
        raise GossamerError(ErrorCode.LABEL, path, problem, "save the number of the class of each pixel")
    if len(images) != len(masks) or not len(images):
        problem = f"{split}_images holds {len(images)} images, {split}_{part} {len(masks)} masks"
        raise GossamerError(ErrorCode.LABEL, path, problem, "save one mask per image, and at least one")
    if images.shape[1:3] != masks.shape[1:3]:
        shapes = ["x".join(map(str, array.shape[1:3])) for array in (images, masks)]
        problem = f"{split}_images have {shapes[0]} pixels, {split}_{part} {shapes[1]}"
        raise GossamerError(ErrorCode.GEOMETRY, path, problem, "save both on one grid")
    return masks.view(np.uint8) if masks.dtype.kind == "b" else masks


def _decide_values(stacks: list[np.ndarray]) -> MaskValues:
    """Return the meaning of the values, which are all known here; arrays often have a wider type than they need."""
    values = {int(value) for stack in stacks for value in np.unique(stack)}
    return decide_values(values, eight_bits=max(values) < 256)
