"""Class folders: ``<class>/<image>``, or ``train|val|test/<class>/<image>``.

A folder inside a class folder is a patient: ``<class>/<patient>/<image>``.
"""

from __future__ import annotations

from pathlib import Path

from gossamer.data.classification import ClassificationDataset
from gossamer.data.dataset import FileReader, Sample, patient_faults
from gossamer.data.io.formats import PICTURES, has_suffix
from gossamer.data.split import SPLIT_NAMES, complete_splits, sort_samples
from gossamer.errors import ErrorCode, Note


def is_class_folders(path: Path) -> bool:
    """Return whether ``path`` is a folder of folders with images."""
    return path.is_dir() and any(_list_images(folder) for folder in _list_folders(path))


def open_class_folders(path: Path, seed: int) -> ClassificationDataset:
    """Return the data set of a tree of class folders."""
    splits = {
        folder: SPLIT_NAMES[folder.name.lower()] for folder in _list_folders(path) if folder.name.lower() in SPLIT_NAMES
    }
    has_splits = "train" in splits.values() and all(_list_folders(folder) for folder in splits)
    roots = splits if has_splits else {path: ""}
    classes = tuple(sorted({folder.name for root in roots for folder in _list_folders(root) if _list_images(folder)}))
    samples = [
        Sample(image.relative_to(path).as_posix(), (classes.index(folder.name),), split, _patient_of(image, folder))
        for root, split in roots.items()
        for folder in _list_folders(root)
        for image in _list_images(folder)
    ]
    notes = _note_unused_files(path, {path / sample.id for sample in samples})
    samples, decided = complete_splits(samples, seed)
    if decided:
        notes.append(Note(ErrorCode.LABEL, str(path), decided))
    final = sort_samples(samples)
    return ClassificationDataset(
        source=str(path),
        layout="class_folders",
        classes=classes,
        multi_label=False,
        samples=final,
        reader=FileReader(path),
        faults=patient_faults(str(path), final),
        notes=tuple(notes),
    )


def _list_folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _list_images(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.rglob("*")
        if has_suffix(entry, PICTURES) and not entry.name.startswith(".") and entry.is_file()
    )


def _patient_of(image: Path, class_folder: Path) -> str | None:
    inside = image.relative_to(class_folder).parts[:-1]
    return "/".join(inside) or None


def _note_unused_files(path: Path, known: set[Path]) -> list[Note]:
    others = sorted(
        entry.relative_to(path).as_posix()
        for entry in path.rglob("*")
        if entry.is_file() and entry not in known and not entry.name.startswith(".")
    )
    if not others:
        return []
    shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    files = "1 file outside the layout is" if len(others) == 1 else f"{len(others)} files outside the layout are"
    return [Note(ErrorCode.FORMAT, str(path), f"{files} not used: {shown}")]
