"""Medical Segmentation Decathlon and nnU-Net folders: ``dataset.json`` next to ``imagesTr`` and ``labelsTr``.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13:4128, 2022. Isensee et al., "nnU-Net",
Nature Methods 18:203, 2021; its second version lists no files, stores each channel in a file, and turns the table of
labels from number-to-name into name-to-number.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data.cases.channel_files import read_channels
from gossamer.data.dataset import Sample, patient_faults
from gossamer.data.io import read_labels
from gossamer.data.io.formats import FORMATS, drop_suffix, is_volume_name, list_suffixes
from gossamer.data.label_map import LabelMap
from gossamer.data.segmentation import LabelledCase, SegmentationDataset
from gossamer.data.split import complete_splits, sort_samples
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_json

TABLE = "dataset.json"
MASK_SUFFIXES = list_suffixes([format for format in FORMATS if format.is_lossless])

# Channels whose stored values mean the same in every image; others have a different scale in every case.
_ABSOLUTE = {"ct", "rescale_to_0_1", "nonorm", "r", "g", "b", "red", "green", "blue"}
_CHANNEL_FILE = re.compile(r"(.+)_(\d{4})")
# patient001_frame12 and case_07-day3 are images of patient001 and case_07.
_PATIENT = re.compile(
    r"(.*?\d.*?)[-_](?:frame|day|visit|ses|session|scan|time|tp|phase|echo|run|slice)[-_]?\d+", re.IGNORECASE
)


def is_decathlon(path: Path) -> bool:
    """Return whether ``path`` is a folder with a ``dataset.json`` next to ``imagesTr`` or ``labelsTr``."""
    return (path / TABLE).is_file() and any((path / folder).is_dir() for folder in ("imagesTr", "labelsTr"))


def open_decathlon(path: Path, seed: int) -> SegmentationDataset:
    """Return the data set of a Decathlon or nnU-Net folder. Missing files become its faults.

    The split is that of the lists ``training`` and ``validation``, or of fold 0 in ``splits_final.json``; without both
    it is drawn. An image counts as a patient unless names tell patients.

    Raises:
        GossamerError: ``E-FORMAT`` and ``E-SYNTAX`` for a table that cannot be read, ``E-SECURITY`` for a path that
            leaves the folder, ``E-UNSUPPORTED`` for regions, ignored labels or another file format, ``E-MISSING`` for
            a folder without cases.
    """
    table = read_json(path / TABLE)
    if not isinstance(table, dict):
        raise _table_error(path, "is not a table of keys and values")
    newer = "channel_names" in table or "file_ending" in table
    channels = _read_channel_names(table.get("channel_names" if newer else "modality", {}), path)
    found = _find_files(path, table, len(channels)) if newer else _listed_files(path, table, len(channels))
    names = _read_class_names(table, path)
    if not found.cases and not found.faults:
        raise GossamerError(ErrorCode.MISSING, path / TABLE, "does not name a case with a mask", "add images and masks")
    samples, decided = complete_splits(_make_samples(found.cases), seed)
    if decided:
        found.notes.append(Note(ErrorCode.LABEL, str(path), decided))
    final = sort_samples(samples)
    return SegmentationDataset(
        source=str(path),
        layout="decathlon",
        classes=tuple(names.values()),
        samples=final,
        overlapping=False,
        volumes=all(is_volume_name(case.mask) for case in found.cases),
        normalize="dataset" if all(name.lower() in _ABSOLUTE for name in channels) else "case",
        reader=_DecathlonReader({case.id: case for case in found.cases}, channels, names),
        faults=(*found.faults, *patient_faults(str(path), final)),
        notes=tuple(found.notes),
    )


@dataclass(frozen=True)
class _DecathlonCase:
    id: str
    images: tuple[Path, ...]
    mask: Path
    split: str


@dataclass
class _FoundCases:
    """Cases whose files exist, and the faults of the others."""

    root: Path
    cases: list[_DecathlonCase] = field(default_factory=list)
    faults: list[GossamerError] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(self, case: _DecathlonCase) -> None:
        for file in (*case.images, case.mask):
            if not file.resolve().is_relative_to(self.root.resolve()):
                problem = "is a link that leaves the folder"
                raise GossamerError(ErrorCode.SECURITY, file, problem, "copy the file into the folder")
        missing = [file for file in (*case.images, case.mask) if not file.is_file()]
        if missing:
            what = "mask" if missing[0] == case.mask else "image"
            self.faults.append(
                GossamerError(ErrorCode.MISSING, missing[0], f"the {what} of {case.id} does not exist", "add the file")
            )
        else:
            self.cases.append(case)


@dataclass(frozen=True)
class _DecathlonReader:
    cases: dict[str, _DecathlonCase]
    channels: tuple[str, ...]
    names: dict[int, str]

    def __call__(self, sample: Sample) -> LabelledCase:
        case = self.cases[sample.id]
        reason = f"{TABLE} names {len(self.channels)}: {', '.join(self.channels)}"
        image = read_channels(case.images, len(self.channels), reason)
        mask = read_labels(case.mask)
        apart = image.grid_difference(mask)
        if apart:
            problem = f"the mask is not on the grid of {case.images[0].name}: {apart}"
            raise GossamerError(ErrorCode.GEOMETRY, case.mask, problem, "export both on one grid")
        return LabelledCase(image, self._labels(mask.array, case.mask))

    def _labels(self, values: np.ndarray, mask: Path) -> LabelMap:
        numbers = np.array(list(self.names), dtype=np.int64).reshape(-1, *[1] * values.ndim)
        planes = values[None] == numbers
        unknown = (values != 0) & ~planes.any(axis=0)
        if unknown.any():
            first = values[unknown][0]
            known = ", ".join(["0", *(f"{number} ({name})" for number, name in self.names.items())])
            problem = (
                f"the value {first} in {int((values == first).sum())} places has no name; the known values are {known}"
            )
            raise GossamerError(ErrorCode.LABEL, mask, problem, f"name it in {TABLE}, or correct the mask")
        return LabelMap(planes, tuple(self.names.values()), False, str(mask))


def _read_channel_names(named: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(named, dict) or set(named) != {str(number) for number in range(len(named))}:
        raise _table_error(path, f"the channels are {named!r}, not a table of numbers from '0' and names")
    return tuple(str(named[str(number)]) for number in range(len(named))) or ("unknown",)


def _read_class_names(table: dict[str, Any], path: Path) -> dict[int, str]:
    """Return the names of the values in their order, without the background."""
    labels = table.get("labels")
    if not isinstance(labels, dict):
        raise _table_error(path, f"labels is {labels!r}, not a table of numbers and names")
    if any(isinstance(value, list) for value in labels.values()) or "ignore" in labels:
        problem = "labels holds regions of several values, or a value to ignore"
        raise GossamerError(ErrorCode.UNSUPPORTED, path / TABLE, problem, "give each value its own name")
    pairs = labels.items() if all(key.isdecimal() for key in labels) else [(v, k) for k, v in labels.items()]
    names: dict[int, str] = {}
    for number, name in pairs:
        if not str(number).isdecimal() or len(str(number)) > 5 or not isinstance(name, str) or not name:
            raise _table_error(
                path, f"labels holds {number!r} for {name!r}, not a name and a whole number of at most 5 digits"
            )
        if int(number) in names or name in names.values():
            raise _table_error(path, f"labels holds {number!r} or {name!r} twice")
        names[int(number)] = name
    return {number: names[number] for number in sorted(names) if number != 0}


def _listed_files(path: Path, table: dict[str, Any], channels: int) -> _FoundCases:
    """Return the cases that the Decathlon's table lists."""
    found, seen = _FoundCases(path), Counter[str]()
    held_out = table.get("validation") or []
    for key, split, entries in (
        ("training", "train" if held_out else "", table.get("training")),
        ("validation", "val", held_out),
    ):
        if not isinstance(entries, list):
            raise _table_error(path, f"{key} is {entries!r}, not a list of images with labels")
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
                raise _table_error(path, f"{key} entry {number} is {entry!r}, not an image and a label")
            image, mask = _path_inside(path, entry["image"]), _path_inside(path, entry["label"])
            identity = image.relative_to(path).as_posix()
            seen[identity] += 1
            if seen[identity] > 1:
                found.faults.append(
                    GossamerError(ErrorCode.LABEL, path / TABLE, f"lists {identity} twice", "remove one of the entries")
                )
            else:
                found.add(_DecathlonCase(identity, _channel_files(image, channels), mask, split))
    unlabelled = table.get("test")
    if isinstance(unlabelled, list) and unlabelled:
        found.notes.append(
            Note(ErrorCode.LABEL, str(path), f"{len(unlabelled)} test images have no masks and are not used")
        )
    _compare_count(table, [seen.total(), len(table["training"])], path, found)
    return found


def _channel_files(image: Path, channels: int) -> tuple[Path, ...]:
    """Return the listed file or, as in the first version of nnU-Net, the numbered files next to it."""
    if not is_volume_name(image):
        raise GossamerError(ErrorCode.UNSUPPORTED, image, "is not a volume", "convert it to .nii.gz")
    stem = drop_suffix(image.name)
    numbered = tuple(
        image.with_name(f"{stem}_{number:04d}{image.name.removeprefix(stem)}") for number in range(channels)
    )
    return numbered if not image.is_file() and numbered[0].is_file() else (image,)


def _find_files(path: Path, table: dict[str, Any], channels: int) -> _FoundCases:
    """Return the cases that the second version of nnU-Net finds by name."""
    ending = table.get("file_ending")
    if ending not in MASK_SUFFIXES or "dataset" in table:
        problem = "lists its files under 'dataset'" if "dataset" in table else f"file_ending is {ending!r}"
        remedy = f"store them in imagesTr and labelsTr, as {', '.join(MASK_SUFFIXES)}"
        raise GossamerError(ErrorCode.UNSUPPORTED, path / TABLE, problem, remedy)
    found = _FoundCases(path)
    splits = _read_fold(path)
    _add_folder(path, "Tr", ending, channels, splits, found)
    _compare_count(table, [len(found.cases) + len(found.faults)], path, found)
    if (path / "labelsTs").is_dir():
        _add_folder(path, "Ts", ending, channels, None, found)
        if splits is None:
            found.cases = [replace(case, split=case.split or "train") for case in found.cases]
    if splits is not None:
        known = {_stem_of(case.mask, ending) for case in found.cases}
        for case in sorted(set(splits) - known):
            problem = f"names {case!r}, which has missing files"
            found.faults.append(GossamerError(ErrorCode.MISSING, path / "splits_final.json", problem, "add the files"))
        left_out = [case for case in found.cases if not case.split]
        found.cases = [case for case in found.cases if case.split]
        if left_out:
            text = f"{len(left_out)} cases are not in fold 0 and are not used"
            found.notes.append(Note(ErrorCode.LABEL, str(path / "splits_final.json"), text))
    return found


def _add_folder(
    path: Path, part: str, ending: str, channels: int, splits: dict[str, str] | None, found: _FoundCases
) -> None:
    images, masks = path / f"images{part}", path / f"labels{part}"
    files: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in _list_files(images, ending):
        match = _CHANNEL_FILE.fullmatch(_stem_of(file, ending))
        if match:
            files[match[1]][int(match[2])] = file
    for case in sorted({*files, *(_stem_of(file, ending) for file in _list_files(masks, ending))}):
        # One picture may hold all colours; each channel of a volume is a file.
        count = 1 if not is_volume_name(ending) and len(files[case]) == 1 else channels
        expected = tuple(images / f"{case}_{number:04d}{ending}" for number in range(count))
        split = "test" if part == "Ts" else (splits or {}).get(case, "")
        found.add(_DecathlonCase(f"{images.name}/{case}{ending}", expected, masks / f"{case}{ending}", split))


def _read_fold(path: Path) -> dict[str, str] | None:
    """Return the split of each case in fold 0, or None without a file of folds."""
    file = path / "splits_final.json"
    if not file.is_file():
        return None
    folds = read_json(file)
    fold = folds[0] if isinstance(folds, list) and folds else None
    if not isinstance(fold, dict) or not all(isinstance(fold.get(split), list) for split in ("train", "val")):
        problem = "does not begin with a fold that has the lists train and val"
        raise GossamerError(ErrorCode.SYNTAX, file, problem, "write [{'train': [...], 'val': [...]}, ...]")
    both = sorted({str(case) for case in fold["train"]} & {str(case) for case in fold["val"]})
    if both:
        raise GossamerError(ErrorCode.LABEL, file, f"{both[0]!r} is in train and val", "remove it from one of them")
    return {str(case): split for split in ("train", "val") for case in fold[split]}


def _make_samples(cases: list[_DecathlonCase]) -> list[Sample]:
    """Return a sample for each case, with patients where a name tells them."""
    stems = {case.id: drop_suffix(Path(case.id).name) for case in cases}
    patients = {identity: match[1] for identity, stem in stems.items() if (match := _PATIENT.fullmatch(stem))}
    return [
        Sample(case.id, (), case.split, patients.get(case.id, stems[case.id]) if patients else None) for case in cases
    ]


def _path_inside(root: Path, name: Any) -> Path:
    """Return the path of ``name`` below ``root``."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise _table_error(root, f"{name!r} is not a path")
    file = root / Path(name)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise GossamerError(ErrorCode.SECURITY, root / TABLE, f"{name!r} leaves the folder", "use paths inside it")
    return file


def _list_files(folder: Path, ending: str) -> list[Path]:
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for file in names if file.name.endswith(ending) and not file.name.startswith(".") and file.is_file()]


def _stem_of(file: Path, ending: str) -> str:
    return file.name.removesuffix(ending)


def _compare_count(table: dict[str, Any], counts: list[int], path: Path, found: _FoundCases) -> None:
    stated = table.get("numTraining")
    if stated is not None and stated not in counts:
        text = f"numTraining is {stated!r}, but there are {max(counts)} cases"
        found.notes.append(Note(ErrorCode.LABEL, str(path / TABLE), text))


def _table_error(path: Path, problem: str) -> GossamerError:
    return GossamerError(ErrorCode.SYNTAX, path / TABLE, problem, "correct the table")
