"""Paired folders: ``images/<name>`` and ``masks/<name>`` of one stem, alone or in ``train|val|test``.

A mask is a label map whose values are classes or instance numbers; or each class has its own files,
``masks/<class>/<name>`` or ``masks/<name>_<class>``, and then classes may overlap. A folder inside ``images`` is a
patient. ``classes.json`` may name the values; ``index.csv`` may state patients and splits. Images and masks are
pictures, or volumes where there are no pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gossamer.data.cases.case_table import read_case_table
from gossamer.data.cases.mask_values import NAMES_FILE, MaskValues, decide_values, read_names, value_note
from gossamer.data.dataset import Sample, patient_faults
from gossamer.data.io import read_image, read_labels
from gossamer.data.io.formats import (
    PICTURES,
    VOLUMES,
    Format,
    has_suffix,
    is_partner_file,
    is_volume_name,
    split_suffix,
)
from gossamer.data.label_map import LabelMap
from gossamer.data.segmentation import LabelledCase, SegmentationDataset
from gossamer.data.split import SPLIT_NAMES, complete_splits, sort_samples
from gossamer.errors import ErrorCode, GossamerError, Note

IMAGE_FOLDERS = ("images",)
MASK_FOLDERS = ("masks", "labels", "annotations")
MASKS_LOOKED_AT = 64

_LABEL_MAP = ""
"""Class of a mask that holds all classes."""


def is_paired_folders(path: Path) -> bool:
    """Return whether ``path`` holds a folder of images next to one of masks, with images in them or nothing at all."""
    return path.is_dir() and any(
        any(has_suffix(file) for file in _list_files(place.images, place.masks))
        or not any(_list_files(place.images, place.masks))
        for place in _find_places(path)
    )


def open_paired_folders(path: Path, seed: int) -> SegmentationDataset:
    """Return the data set of paired folders. Some masks are read, to tell what their values mean.

    Raises:
        GossamerError: ``E-MISSING`` for folders without images, masks or pairs; ``E-LABEL`` for invalid names of
            values; the error of a mask if no mask can be read.
    """
    places = _find_places(path)
    faults: list[GossamerError] = []
    formats = _choose_formats(places)
    images = [_index_by_stem(place.images, formats, faults) for place in places]
    masks = [_index_by_stem(place.masks, formats, faults) for place in places]
    pairs = _pair_masks(path, places, images, masks, faults)
    samples = [
        Sample(image.relative_to(path).as_posix(), (), place.split, key.rpartition("/")[0] or None)
        for place, found in zip(places, images, strict=True)
        for key, image in found.items()
        if image in pairs
    ]
    notes = _note_unused_folders(path, places)
    one_a_class = any(_LABEL_MAP not in group for group in pairs.values())
    if one_a_class:
        values = None
        classes = tuple(sorted({name for group in pairs.values() for name in group}))
        notes += _note_classes(path, pairs, classes)
    else:
        values = _decide_values(path, [group[_LABEL_MAP] for group in pairs.values()], seed)
        classes = values.classes
        notes += value_note(str(path), values)
    table = read_case_table(path, samples)
    decided, note = complete_splits(
        [s for s in table.samples if s.split or not _has_splits(table.samples)], seed, table.traits
    )
    notes += [*table.notes, *([Note(ErrorCode.LABEL, str(path), note)] if note else [])]
    final = sort_samples(decided)
    return SegmentationDataset(
        source=str(path),
        layout="paired_folders",
        classes=classes,
        samples=final,
        overlapping=one_a_class,
        volumes=formats == VOLUMES,
        normalize="case" if formats == VOLUMES else "dataset",
        reader=_PairReader(
            path, {image.relative_to(path).as_posix(): group for image, group in pairs.items()}, values, classes
        ),
        faults=(*faults, *table.faults, *patient_faults(str(path), final)),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _PairReader:
    root: Path
    masks: Mapping[str, Mapping[str, Path]]
    values: MaskValues | None
    classes: tuple[str, ...]

    def __call__(self, sample: Sample) -> LabelledCase:
        image = read_image(self.root / sample.id)
        group = {name: read_labels(path) for name, path in self.masks[sample.id].items()}
        image = replace(image, notes=(*image.notes, *(note for mask in group.values() for note in mask.notes)))
        for mask in group.values():
            apart = image.grid_difference(mask) if mask.geometry is not None else None
            if apart:
                problem = f"the mask is not on the grid of {Path(image.source).name}: {apart}"
                raise GossamerError(ErrorCode.GEOMETRY, mask.source, problem, "export both on one grid")
        if self.values is not None:
            mask = group[_LABEL_MAP]
            return LabelledCase(image, self.values.label_map(mask.array, mask.source))
        planes = np.zeros((len(self.classes), *image.spatial_shape), dtype=bool)
        for name, mask in group.items():
            if mask.spatial_shape != image.spatial_shape:
                shapes = ["x".join(map(str, shape)) for shape in (image.spatial_shape, mask.spatial_shape)]
                problem = f"the image has {shapes[0]} pixels, its mask {shapes[1]}"
                raise GossamerError(ErrorCode.GEOMETRY, mask.source, problem, "export both on one grid")
            planes[self.classes.index(name)] = mask.array > 0
        return LabelledCase(image, LabelMap(planes, self.classes, True, image.source))


@dataclass(frozen=True)
class _FolderPair:
    """A folder of images and its folder of masks, and the split that their names state, or ``""``."""

    split: str
    images: Path
    masks: Path


def _find_places(path: Path) -> list[_FolderPair]:
    images, masks = _find_child(path, IMAGE_FOLDERS), _find_child(path, MASK_FOLDERS)
    if images is None or masks is None:
        inner = [
            (split, _find_child(folder, IMAGE_FOLDERS), _find_child(folder, MASK_FOLDERS))
            for split, folder in _find_splits(path)
        ]
        return [_FolderPair(split, a, b) for split, a, b in inner if a is not None and b is not None]
    splits = dict(_find_splits(images))
    if "train" not in splits:
        return [_FolderPair("", images, masks)]
    of_masks = dict(_find_splits(masks))
    return [_FolderPair(split, folder, of_masks[split]) for split, folder in splits.items() if split in of_masks]


def _find_child(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first existing folder of these names, or None."""
    folders = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def _find_splits(folder: Path) -> Iterator[tuple[str, Path]]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name.lower() in SPLIT_NAMES:
            yield SPLIT_NAMES[entry.name.lower()], entry


def _list_files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for entry in folder.rglob("*"):
            if entry.is_file() and not entry.name.startswith("."):
                yield entry


def _choose_formats(places: Sequence[_FolderPair]) -> tuple[Format, ...]:
    """Return the formats of pictures or those of volumes: volumes count where there are no pictures."""
    files = [file for place in places for file in _list_files(place.images, place.masks)]
    has_volumes = any(has_suffix(file, VOLUMES) for file in files)
    return VOLUMES if has_volumes and not any(has_suffix(file, PICTURES) for file in files) else PICTURES


def _index_by_stem(folder: Path, formats: Sequence[Format], faults: list[GossamerError]) -> dict[str, Path]:
    """Return the images below ``folder`` by their path without suffix."""
    found: dict[str, Path] = {}
    for file in sorted(_list_files(folder)):
        if has_suffix(file, formats) and not is_partner_file(file):
            key = split_suffix(file.relative_to(folder).as_posix())[0]
            if key in found:
                problem = f"has the same name as {found[key].name}, so that their masks cannot be told apart"
                faults.append(GossamerError(ErrorCode.LABEL, file, problem, "rename one of them"))
            else:
                found[key] = file
    return found


def _as_label_map(key: str, images: Mapping[str, Path]) -> tuple[str, str] | None:
    return (key, _LABEL_MAP) if key in images else None


def _as_marked_label_map(key: str, images: Mapping[str, Path]) -> tuple[str, str] | None:
    stem, _, mark = key.rpartition("_")
    return (stem, _LABEL_MAP) if mark.lower() in _MARKS and stem in images else None


def _as_class_folder(key: str, images: Mapping[str, Path]) -> tuple[str, str] | None:
    name, _, rest = key.partition("/")
    return (rest, name) if rest in images else None


def _as_class_suffix(key: str, images: Mapping[str, Path]) -> tuple[str, str] | None:
    stem = key
    while "_" in stem.rpartition("/")[2]:
        stem = stem.rpartition("_")[0]
        if stem in images:
            return stem, key[len(stem) + 1 :]
    return None


# Endings of the names of masks that are not classes.
_MARKS = ("mask", "masks", "seg", "segmentation", "label", "labels", "gt")
_MaskNaming = Callable[[str, Mapping[str, Path]], tuple[str, str] | None]
_NAMINGS: tuple[_MaskNaming, ...] = (_as_label_map, _as_marked_label_map, _as_class_folder, _as_class_suffix)


def _pair_masks(
    path: Path,
    places: Sequence[_FolderPair],
    images: Sequence[Mapping[str, Path]],
    masks: Sequence[Mapping[str, Path]],
    faults: list[GossamerError],
) -> dict[Path, dict[str, Path]]:
    """Return the masks of each image by class, in the form of names that pairs most of them."""
    for found, kind in ((images, "images"), (masks, "masks")):
        if not any(found):
            folder = (places[0].images if kind == "images" else places[0].masks).relative_to(path).as_posix()
            problem = f"{folder}/ holds no images"
            raise GossamerError(ErrorCode.MISSING, path, problem, f"put {kind} there as PNG, TIFF or NIfTI")

    def matched(form: _MaskNaming) -> list[list[tuple[Path, tuple[str, str] | None]]]:
        return [[(file, form(key, a)) for key, file in b.items()] for a, b in zip(images, masks, strict=True)]

    forms = [matched(form) for form in _NAMINGS]
    best = max(forms, key=lambda form: sum(match is not None for group in form for _, match in group))
    pairs: dict[Path, dict[str, Path]] = {}
    for group, a in zip(best, images, strict=True):
        for file, match in group:
            if match is None:
                faults.append(
                    GossamerError(
                        ErrorCode.MISSING, file, "is a mask without an image", "add the image, or remove the mask"
                    )
                )
            else:
                pairs.setdefault(a[match[0]], {})[match[1]] = file
    if not pairs:
        shown = [next(file.name for group in found for file in group.values()) for found in (images, masks)]
        problem = f"no mask has the name of an image: an image is {shown[0]}, a mask is {shown[1]}"
        raise GossamerError(ErrorCode.MISSING, path, problem, "give each mask the name of its image")
    for place, a in zip(places, images, strict=True):
        for key, file in a.items():
            if file not in pairs:
                expected = (place.masks / key).relative_to(path).as_posix()
                suffix = split_suffix(file.name)[1] if is_volume_name(file) else ".png"
                problem = f"has no mask {expected}{suffix}"
                faults.append(GossamerError(ErrorCode.MISSING, file, problem, "add the mask, or remove the image"))
    return pairs


def _decide_values(path: Path, masks: Sequence[Path], seed: int) -> MaskValues:
    """Return the meaning of the values: as named, or as up to 64 masks suggest."""
    if (path / NAMES_FILE).is_file():
        return read_names(path / NAMES_FILE)
    chosen = np.random.default_rng([seed, len(masks)]).permutation(len(masks))[:MASKS_LOOKED_AT]
    values: set[int] = set()
    wide, refused, read = False, None, 0
    for index in sorted(chosen.tolist()):
        try:
            array = read_labels(masks[index]).array
        except GossamerError as error:
            refused = refused or error  # the check reports each of them
            continue
        read += 1
        found = set(np.unique(array).tolist())
        # A volume is often stored in a wider type than its values need.
        wide |= max(found, default=0) > 255 if is_volume_name(masks[index]) else array.dtype.itemsize > 1
        values |= found
    if refused is not None and not read:
        raise refused
    return decide_values(values, eight_bits=not wide)


def _note_classes(path: Path, pairs: Mapping[Path, Mapping[str, Path]], classes: Sequence[str]) -> list[Note]:
    notes = []
    absent = sum(len(classes) - len(group) for group in pairs.values())
    if absent:
        notes.append(Note(ErrorCode.LABEL, str(path), f"{absent} masks of a class do not exist and count as empty"))
    if (path / NAMES_FILE).is_file():
        notes.append(Note(ErrorCode.LABEL, str(path / NAMES_FILE), "is not used: each class has its own mask files"))
    return notes


def _has_splits(samples: Sequence[Sample]) -> bool:
    return any(sample.split for sample in samples)


def _note_unused_folders(path: Path, places: Sequence[_FolderPair]) -> list[Note]:
    """Return a note for each folder of a split that has images but no masks."""
    used = {place.images for place in places}
    inner = _find_child(path, IMAGE_FOLDERS)
    if inner is not None:
        found = [folder for _, folder in _find_splits(inner)] if any(place.split for place in places) else []
    else:
        children = [_find_child(folder, IMAGE_FOLDERS) for _, folder in _find_splits(path)]
        found = [images for images in children if images is not None]
    names = [folder.relative_to(path).as_posix() for folder in found if folder not in used]
    return [Note(ErrorCode.MISSING, str(path), f"{name}/ has no masks and is not used") for name in names]
