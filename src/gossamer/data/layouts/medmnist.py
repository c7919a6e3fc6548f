"""MedMNIST archives: ``train_images``, ``train_labels``, and the same for ``val`` and ``test``, in one npz.

Layout and class names: Yang et al., "MedMNIST v2", Scientific Data 10:41, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gossamer.data.classification import ClassificationDataset
from gossamer.data.dataset import SPLITS, Sample
from gossamer.data.image import Image
from gossamer.data.io.npz import member_shapes, read_arrays
from gossamer.errors import ErrorCode, GossamerError, Note

# The archives hold numbers only; the class names are published with them.
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "breastmnist": ("malignant", "normal or benign"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocyte",
        "lymphocyte", "monocyte", "neutrophil", "platelet",
    ),
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
        "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural thickening", "hernia",
    ),
}  # fmt: skip


def is_medmnist(path: Path) -> bool:
    """Return whether ``path`` is an npz file whose labels are not masks."""
    if not path.is_file() or path.suffix.lower() != ".npz":
        return False
    shapes = member_shapes(path)
    return len(shapes.get("train_labels", ())) < 3 and ("train_labels" in shapes or "train_masks" not in shapes)


def open_medmnist(path: Path, seed: int) -> ClassificationDataset:
    """Return the data set of a MedMNIST archive. It states its splits, so the seed has no effect.

    Raises:
        GossamerError: ``E-FORMAT``, ``E-INTEGRITY``, ``E-LIMIT``, ``E-SECURITY`` for an object array, ``E-LABEL`` for
            missing or contradictory keys.
    """
    arrays = read_arrays(path, {f"{split}_{part}" for split in SPLITS for part in ("images", "labels")})
    present = [split for split in SPLITS if f"{split}_images" in arrays or f"{split}_labels" in arrays]
    for split in {"train", *present}:
        _check_split(path, arrays, split)
    labels = {split: arrays[f"{split}_labels"].reshape(len(arrays[f"{split}_labels"]), -1) for split in present}
    width = labels["train"].shape[1]
    multi_label = width > 1
    count = width if multi_label else 1 + max(int(values.max(initial=0)) for values in labels.values())
    samples = tuple(
        Sample(
            archive_id(split, index, len(values)),
            tuple(int(label) for label in (np.flatnonzero(row) if multi_label else row)),
            split,
        )
        for split, values in labels.items()
        for index, row in enumerate(values)
    )
    names, notes = _name_classes(path, count)
    return ClassificationDataset(
        source=str(path),
        layout="medmnist",
        classes=names,
        multi_label=multi_label,
        samples=samples,
        reader=ArchiveReader(str(path), {split: arrays[f"{split}_images"] for split in present}),
        notes=notes,
    )


@dataclass(frozen=True)
class ArchiveReader:
    """Reader of samples whose ids are ``split/number``.

    Attributes:
        path: Archive, for messages.
        images: Images of each split, ``(n, rows, columns[, channels])``.
    """

    path: str
    images: dict[str, np.ndarray]

    def __call__(self, sample: Sample) -> Image:
        """Return the image of ``sample``."""
        split, index = sample.id.split("/")
        array = self.images[split][int(index)]
        axes = ("rows", "columns") if array.ndim == 2 else ("rows", "columns", "channels")
        return Image(array, axes, source=f"{self.path}:{sample.id}")


def archive_id(split: str, index: int, count: int) -> str:
    """Return the id of one of the ``count`` images of a split."""
    return f"{split}/{index:0{len(str(count))}d}"


def check_images(path: Path, key: str, images: np.ndarray) -> None:
    """Raise for an array that is not a stack of pictures.

    Raises:
        GossamerError: ``E-LABEL``.
    """
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
    if not shaped or images.dtype.kind not in "uif":
        problem = f"{key} is {images.dtype} {images.shape}, not numbers of shape (n, rows, columns[, 1 or 3])"
        raise GossamerError(ErrorCode.LABEL, path, problem, "correct the array")


def _check_split(path: Path, arrays: dict[str, np.ndarray], split: str) -> None:
    for part in ("images", "labels"):
        if f"{split}_{part}" not in arrays:
            problem = f"has no key {split}_{part}; it has {', '.join(sorted(arrays)) or 'none of the known keys'}"
            raise GossamerError(ErrorCode.LABEL, path, problem, "save <split>_images and <split>_labels together")
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    check_images(path, f"{split}_images", images)
    if len(images) != len(labels) or not len(images):
        problem = f"{split}_images holds {len(images)} images, {split}_labels {len(labels)} labels"
        raise GossamerError(ErrorCode.LABEL, path, problem, "save one label per image, and at least one")
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "uib" or labels.min() < 0:
        problem = f"{split}_labels is {labels.dtype} {labels.shape}, not class numbers from 0"
        raise GossamerError(ErrorCode.LABEL, path, problem, "correct the array")
    width = labels.reshape(len(labels), -1).shape[1]
    train = arrays.get("train_labels")
    if width > 1 and labels.max() > 1:
        problem = f"{split}_labels has {width} columns with values up to {labels.max()}, only 0 and 1 are allowed"
        raise GossamerError(ErrorCode.LABEL, path, problem, "correct the array")
    if train is not None and train.reshape(len(train), -1).shape[1] != width:
        problem = f"train_labels and {split}_labels have different numbers of columns"
        raise GossamerError(ErrorCode.LABEL, path, problem, "correct the arrays")


def _name_classes(path: Path, count: int) -> tuple[tuple[str, ...], tuple[Note, ...]]:
    names = CLASS_NAMES.get(path.stem.split("_")[0].lower(), ())
    if len(names) == count:
        return names, (Note(ErrorCode.LABEL, str(path), "the class names are those published for this file name"),)
    return tuple(f"class {index}" for index in range(count)), ()
