"""Image and volume files to masks in their own format, with the size of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gossamer.data.cases.channel_files import numbered_channel, read_channels
from gossamer.data.cases.studies import Study, find_studies
from gossamer.data.image import Image
from gossamer.data.io.formats import has_suffix, list_suffixes, split_suffix
from gossamer.data.io.masks import write_masks
from gossamer.data.io.rle import Order
from gossamer.data.label_map import LabelMap
from gossamer.data.layouts.rle_csv import write_run_lengths
from gossamer.errors import ErrorCode, GossamerError, Note, from_os_error
from gossamer.files import require_free_folder, require_place, write_text
from gossamer.inference.decisions import to_csv
from gossamer.inference.input_files import (
    InputErrors,
    errors_to_json,
    no_images,
    none_usable,
    require_image_path,
    write_errors,
)
from gossamer.inference.segmentation import SegmentationPredictor, measure_sizes
from gossamer.progress import SILENT, Progress, Update
from gossamer.summary import Result, SummaryTable

RUN_LENGTHS = "submission.csv"
SIZES = "sizes.csv"
_IMAGE_FOLDERS = {"images", "imagestr", "imagests"}
_MASK_FOLDERS = {"masks", "labels", "annotations", "labelstr", "labelsts"}


@dataclass(frozen=True)
class SegmentationInput:
    """An image to segment: a picture, a NIfTI volume, an image in several files, or a study of slices.

    Attributes:
        path: Path as the user named it, or as it was found in a folder.
        name: File name of the masks, with the suffix of the image; unique among all inputs.
        files: File of each channel, for an image in several files.
        study: Study of the UW-Madison layout, if it is one.
    """

    path: Path
    name: str
    files: tuple[Path, ...] = ()
    study: Study | None = None

    def read(self, predictor: SegmentationPredictor) -> Image:
        """Return the image, with the channels that the predictor takes."""
        if self.study is not None:
            return self.study.read()
        if self.files:
            return read_channels(self.files, predictor.channels, f"the model takes {predictor.channels}")
        return predictor.read_image(self.path)


@dataclass(repr=False)
class SegmentationResults(Result):
    """The masks of several images.

    Attributes:
        out: Folder of the masks.
        rows: Path, class, size and unit for every class of every input.
        files: Paths of the masks.
        errors: Errors of the inputs that could not be used, with their paths.
        notes: Remarks made while reading.
        facts: Origin of the model as data.
        inputs: Number of inputs.
    """

    out: Path
    rows: list[tuple[str, str, float, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    errors: InputErrors = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    inputs: int = 0

    def to_csv(self) -> str:
        """Return the sizes as CSV text."""
        rows = [[path, name, f"{size:.6g}", unit] for path, name, size, unit in self.rows]
        return to_csv([["path", "class", "size", "unit"], *rows])

    def to_dict(self) -> dict[str, Any]:
        """Return the paths of the masks, the sizes and the errors as data."""
        return {
            **self.facts,
            "masks": [str(file) for file in self.files],
            "sizes": [dict(zip(("path", "class", "size", "unit"), row, strict=True)) for row in self.rows],
            "errors": errors_to_json(self.errors),
            "notes": [note.to_json() for note in self.notes],
        }

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return a line with the number of masks and where they are."""
        usable = self.inputs - len(self.errors)
        title = f"wrote masks of {usable} of {self.inputs} inputs to {self.out}, sizes in {self.out / SIZES}"
        return (SummaryTable(title, (), ()),)


def find_inputs(predictor: SegmentationPredictor, paths: Sequence[Path]) -> list[SegmentationInput]:
    """Return the images among ``paths`` and inside its folders, in order.

    The masks in a folder with images and masks are skipped. A folder of studies gives its studies. Files named
    ``<case>_0000``, ``<case>_0001``, ... as in nnU-Net are the channels of one image, if the model was trained on such
    files.

    Args:
        predictor: Predictor of the images.
        paths: Files and folders.

    Raises:
        GossamerError: ``E-MISSING`` if a path does not exist, has no image, or lacks a channel of an image;
            ``E-UNSUPPORTED`` for a data set in one file; ``E-OUTPUT`` where two inputs would have masks of one name.
    """
    found: list[SegmentationInput] = []
    for path in paths:
        require_image_path(path)
        if not path.is_dir():
            found.append(SegmentationInput(path, path.name))
        elif root := _root_of_studies(path):
            studies = find_studies(root).values()
            here = path.absolute()
            inside = [study for study in studies if any(here in file.parents for file in study.slices.values())]
            found += [SegmentationInput(root, study.id, study=study) for study in inside]
        else:
            files = _images_inside(path)
            found += [SegmentationInput(file, file.relative_to(path).as_posix().replace("/", "-")) for file in files]
    if not found:
        raise no_images(paths, list_suffixes())
    return _with_distinct_names(_join_channels(found, predictor.channels) if predictor.numbered else found)


def _images_inside(folder: Path) -> list[Path]:
    """Return the images below a folder, without the masks of a data set with both."""
    above = {
        file: {part.lower() for part in file.relative_to(folder).parts[:-1]}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".") and has_suffix(file)
    }
    if not any(names & _IMAGE_FOLDERS for names in above.values()):
        return list(above)
    return [file for file, names in above.items() if not names & _MASK_FOLDERS]


def _join_channels(inputs: Sequence[SegmentationInput], channels: int) -> list[SegmentationInput]:
    """Return the inputs with the numbered files of one image as one input, at the place of the first of them."""
    cases: dict[tuple[Path, str], dict[int, Path]] = {}
    joined: dict[tuple[Path, str], SegmentationInput] = {}
    for entry in inputs:
        numbered = numbered_channel(entry.path.name) if entry.study is None else None
        key = (entry.path.parent, entry.name if numbered is None else numbered[0])
        joined.setdefault(key, entry)
        if numbered is not None:
            cases.setdefault(key, {})[numbered[1]] = entry.path
    for key, members in cases.items():
        if sorted(members) not in ([0], list(range(channels))):
            problem = f"has the channels {', '.join(map(str, sorted(members)))}, the model takes 0 to {channels - 1}"
            raise GossamerError(ErrorCode.MISSING, key[0] / key[1], problem, "give the files of all channels")
        files = tuple(members[number] for number in sorted(members))
        joined[key] = SegmentationInput(files[0], key[1], files if len(files) > 1 else ())
    return list(joined.values())


def _with_distinct_names(inputs: Sequence[SegmentationInput]) -> list[SegmentationInput]:
    """Return the inputs, with the folder or the suffix added to names that occur twice."""
    renamings: tuple[Callable[[SegmentationInput], str], ...] = (
        lambda entry: entry.name,
        lambda entry: f"{entry.path.parent.name}-{entry.name}",
        lambda entry: entry.name.replace(".", "-") + entry.path.suffix,
    )
    current = list(inputs)
    for rename in renamings:
        stems = [split_suffix(entry.name)[0] for entry in current]
        counts = Counter(stems)
        current = [
            replace(entry, name=rename(entry)) if counts[stem] > 1 else entry
            for stem, entry in zip(stems, current, strict=True)
        ]
    seen: dict[str, Path] = {}
    for entry in current:
        stem, _ = split_suffix(entry.name)
        if stem in seen:
            problem = f"{seen[stem]} and {entry.path} would have masks of one name"
            raise GossamerError(ErrorCode.OUTPUT, entry.path, problem, "predict them into different folders")
        seen[stem] = entry.path
    return current


def _root_of_studies(path: Path) -> Path | None:
    """Return the folder of the cases at, above or below ``path``; None where it has no studies."""
    path = path.absolute()
    inside = next((scans for scans in sorted(path.rglob("scans")) if any(scans.glob("slice_*.png"))), None)
    scans = path if path.name == "scans" and any(path.glob("slice_*.png")) else inside
    return None if scans is None else scans.parents[2]


def predict_inputs(
    predictor: SegmentationPredictor,
    inputs: Sequence[SegmentationInput],
    out: Path,
    *,
    strict: bool = False,
    order: Order = "rows",
    update: Update = lambda done, total: None,
) -> SegmentationResults:
    """Segment inputs and write their masks into a folder, with ``sizes.csv``; studies become ``submission.csv``.

    An unusable input does not stop the others.

    Args:
        predictor: Predictor of the images.
        inputs: Inputs, as ``find_inputs`` returns them.
        out: Folder, which is made if it does not exist.
        strict: Whether to raise the first error.
        order: Order in which run lengths count pixels.
        update: Function called with the number of inputs done and their total.

    Raises:
        GossamerError: No input can be used, or the first unusable one if ``strict``; nothing is written then.
    """
    results = SegmentationResults(out, facts=predictor.facts, inputs=len(inputs))

    def segmented() -> Iterator[tuple[SegmentationInput, Image, LabelMap]]:
        for number, entry in enumerate(inputs, start=1):
            try:
                image = entry.read(predictor)
                predictor.lap("read")
                labels = predictor.predict(image)
            except GossamerError as error:
                if strict:
                    raise
                results.errors.append((entry.path, error))
                predictor.lap("read")
            else:
                results.notes += image.notes
                results.rows += _size_rows(entry, image, labels)
                predictor.lap("postprocess")
                yield entry, image, labels
            predictor.lap("write")
            update(number, len(inputs))
        if len(results.errors) == len(inputs):
            raise none_usable(results.errors)

    def studies() -> Iterator[tuple[Study, LabelMap]]:
        for entry, image, labels in segmented():
            if entry.study is not None:
                yield entry.study, labels
            else:
                results.files += write_masks(labels, image, out, entry.name)

    with _output_folder(out):
        if any(entry.study is not None for entry in inputs):
            write_run_lengths(out / RUN_LENGTHS, studies(), order)
            results.files.append(out / RUN_LENGTHS)
        else:
            for entry, image, labels in segmented():
                results.files += write_masks(labels, image, out, entry.name)
        write_text(out / SIZES, results.to_csv())
        write_errors(results.errors, out)
    predictor.lap("write")
    return results


def predict_paths(
    predictor: SegmentationPredictor,
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    strict: bool = False,
    rle_order: Order | None = None,
    progress: Progress = SILENT,
) -> SegmentationResults:
    """Segment the images among files and folders.

    Args:
        predictor: Predictor of the images.
        paths: Files and folders.
        out: Folder of the masks, new or empty.
        strict: Whether to stop at the first image that cannot be used.
        rle_order: Order in which run lengths count pixels (default: rows).
        progress: Receiver of the number of images done.

    Raises:
        GossamerError: ``E-CONFIG`` without ``out``, ``E-OUTPUT`` if it is not a new or empty folder, ``E-MISSING`` or
            ``E-UNSUPPORTED`` for a path; no image can be used, or the first unusable one if ``strict``.
    """
    if out is None:
        raise GossamerError(ErrorCode.CONFIG, "out", "is missing: masks need a folder", "name a new or empty folder")
    require_free_folder(out)
    require_place(out, parents=True)
    inputs = find_inputs(predictor, paths)
    with progress.track_steps("segmenting") as update:
        return predict_inputs(predictor, inputs, out, strict=strict, order=rle_order or "rows", update=update)


@contextmanager
def _output_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the block; if the block fails and has written nothing, remove it again."""
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, folder) from error
    try:
        yield
    except GossamerError:
        if not any(folder.iterdir()):
            for path in made:
                path.rmdir()
        raise


def _size_rows(entry: SegmentationInput, image: Image, labels: LabelMap) -> list[tuple[str, str, float, str]]:
    unit = "px" if image.spacing_mm is None else ("ml" if len(image.spacing_mm) == 3 else "mm2")
    where = entry.study.id if entry.study is not None else str(entry.path)
    sizes = measure_sizes(labels, image.spacing_mm)
    return [(where, name, float(size), unit) for name, size in zip(labels.classes, sizes, strict=True)]
