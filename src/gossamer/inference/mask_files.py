"""Images and volumes without labels to masks in their own format, with the size of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gossamer.data.image import Image
from gossamer.data.io import RASTER_SUFFIXES, read_image
from gossamer.data.io.nifti import is_nifti, read_nifti
from gossamer.data.io.rle import Order
from gossamer.data.io.write_masks import mask_stem, write_masks
from gossamer.data.label_map import LabelMap
from gossamer.data.layouts.channel_files import numbered_channel, read_channels
from gossamer.data.layouts.rle_csv import write_run_lengths
from gossamer.data.layouts.studies import Study, find_studies
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import write_text
from gossamer.inference.classification import none_usable
from gossamer.inference.decisions import to_csv
from gossamer.inference.segmentation import SegmentationPredictor, measure_sizes

RUN_LENGTHS = "submission.csv"
SIZES = "sizes.csv"
_IMAGE_FOLDERS = {"images", "imagestr", "imagests"}
_MASK_FOLDERS = {"masks", "labels", "annotations", "labelstr", "labelsts"}


@dataclass(frozen=True)
class MaskInput:
    """Something to segment: a picture, a NIfTI volume, an image in several files, or a study of slices.

    Attributes:
        path: as the user named it, or as it was found in a folder.
        name: file name of the masks, with the suffix of the image; unique among all inputs.
        channels: of the image; those of a NIfTI are its fourth axis, or several files.
        files: the file of each channel, where there are several.
        study: where it is a study of the UW-Madison layout.
    """

    path: Path
    name: str
    channels: int = 1
    files: tuple[Path, ...] = ()
    study: Study | None = None

    def read(self) -> Image:
        """Return the image."""
        if self.study is not None:
            return self.study.read()
        if self.files:
            return read_channels(self.files, self.channels, f"the model takes {self.channels}")
        if is_nifti(self.path):
            return read_nifti(self.path, channels=self.channels > 1)
        return read_image(self.path)


@dataclass
class MaskResults:
    """What came of a prediction.

    Attributes:
        rows: path, class, size and unit of every class of every input.
        files: every mask that was written.
        errors: of inputs that could not be read or segmented, with their paths.
        notes: what was decided while reading.
    """

    rows: list[tuple[str, str, float, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    errors: list[tuple[Path, GossamerError]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def find_inputs(paths: Sequence[Path], channels: int = 1, *, numbered: bool = False) -> list[MaskInput]:
    """Return the images among ``paths`` and inside its folders, in order.

    Of a folder with images and masks only the images count. A folder of studies gives its studies.

    Args:
        paths: files and folders.
        channels: of the images that the model takes.
        numbered: whether files named ``<case>_0000``, ``<case>_0001``, ... are channels of one image, as nnU-Net has
            them.

    Raises:
        GossamerError: ``E-MISSING`` where a path is not there or holds no image, or a channel of an image is not there;
            ``E-UNSUPPORTED`` for a data set in one file; ``E-OUTPUT`` where two inputs would have masks of one name.
    """
    found: list[MaskInput] = []
    for path in paths:
        if not path.exists():
            raise GossamerError(ErrorCode.MISSING, path, "no such file or folder", "check the path")
        if path.suffix.lower() in (".npz", ".csv"):
            problem = "is a data set, predict takes images"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, f"use gossamer evaluate RUN {path}")
        if not path.is_dir():
            found.append(MaskInput(path, path.name, channels))
        elif root := _root_of_studies(path):
            studies = find_studies(root).values()
            here = path.absolute()
            inside = [study for study in studies if any(here in file.parents for file in study.slices.values())]
            found += [MaskInput(root, study.id, study=study) for study in inside]
        else:
            files = _images_inside(path)
            found += [MaskInput(file, file.relative_to(path).as_posix().replace("/", "-"), channels) for file in files]
    if not found:
        where = ", ".join(str(path) for path in paths) or "gossamer predict"
        remedy = f"name files or folders with .nii, .nii.gz, {', '.join(RASTER_SUFFIXES)}"
        raise GossamerError(ErrorCode.MISSING, where, "no images", remedy)
    return _distinct(_joined(found, channels) if numbered else found)


def _images_inside(folder: Path) -> list[Path]:
    """Return the images below a folder; not the masks, where it is a data set with both."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    files = [file for file in files if is_nifti(file) or file.suffix.lower() in RASTER_SUFFIXES]
    parts = {part.lower() for file in files for part in file.relative_to(folder).parts[:-1]}
    if not parts & _IMAGE_FOLDERS:
        return files
    return [
        file for file in files if not {part.lower() for part in file.relative_to(folder).parts[:-1]} & _MASK_FOLDERS
    ]


def _joined(inputs: Sequence[MaskInput], channels: int) -> list[MaskInput]:
    """Return the inputs with the numbered files of one image as one input, where the first of them stood."""
    cases: dict[tuple[Path, str], dict[int, Path]] = {}
    joined: dict[tuple[Path, str], MaskInput] = {}
    for entry in inputs:
        numbered = numbered_channel(entry.path.name) if entry.study is None else None
        key = (entry.path.parent, entry.name if numbered is None else numbered[0])
        joined.setdefault(key, entry)
        if numbered is not None:
            cases.setdefault(key, {})[numbered[1]] = entry.path
    for key, held in cases.items():
        if sorted(held) not in ([0], list(range(channels))):
            problem = f"has the channels {', '.join(map(str, sorted(held)))}, the model takes 0 to {channels - 1}"
            raise GossamerError(ErrorCode.MISSING, key[0] / key[1], problem, "give the files of all channels")
        files = tuple(held[number] for number in sorted(held))
        joined[key] = MaskInput(files[0], key[1], channels, files if len(files) > 1 else ())
    return list(joined.values())


def _distinct(inputs: Sequence[MaskInput]) -> list[MaskInput]:
    """Return the inputs with the folder, or the suffix, in front of or behind names that occur twice."""
    renamings: tuple[Callable[[MaskInput], str], ...] = (
        lambda entry: entry.name,
        lambda entry: f"{entry.path.parent.name}-{entry.name}",
        lambda entry: entry.name.replace(".", "-") + entry.path.suffix,
    )
    current = list(inputs)
    for rename in renamings:
        counts = Counter(mask_stem(entry.name) for entry in current)
        current = [
            replace(entry, name=rename(entry)) if counts[mask_stem(entry.name)] > 1 else entry for entry in current
        ]
    seen: dict[str, Path] = {}
    for entry in current:
        stem = mask_stem(entry.name)
        if stem in seen:
            problem = f"{seen[stem]} and {entry.path} would have masks of one name"
            raise GossamerError(ErrorCode.OUTPUT, entry.path, problem, "predict them into different folders")
        seen[stem] = entry.path
    return current


def _root_of_studies(path: Path) -> Path | None:
    """Return the folder of the cases that ``path`` holds, is one of, or lies in; None where it has no studies."""
    path = path.absolute()
    inside = next((scans for scans in sorted(path.rglob("scans")) if any(scans.glob("slice_*.png"))), None)
    scans = path if path.name == "scans" and any(path.glob("slice_*.png")) else inside
    return None if scans is None else scans.parents[2]


def predict_masks(
    model: SegmentationPredictor,
    inputs: Sequence[MaskInput],
    out: Path,
    *,
    order: Order = "rows",
    strict: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> MaskResults:
    """Segment ``inputs`` and write their masks into ``out``, with ``sizes.csv``; studies become ``submission.csv``.

    An input that cannot be used does not stop the others.

    Args:
        model: the network with its preprocessing.
        inputs: what to segment.
        out: a folder; it exists.
        order: in which run lengths count pixels.
        strict: raise the first error.
        on_progress: called with the number of inputs done, and their total.

    Raises:
        GossamerError: no input can be used, or the first that cannot where ``strict``; nothing is written then.
    """
    results = MaskResults()

    def segmented() -> Iterator[tuple[MaskInput, Image, LabelMap]]:
        for number, entry in enumerate(inputs, start=1):
            try:
                image = entry.read()
                model.lap("read")
                labels = model(image)
            except GossamerError as error:
                if strict:
                    raise
                results.errors.append((entry.path, error))
                model.lap("read")
            else:
                results.notes += image.notes
                _add_sizes(results, entry, image, labels)
                model.lap("postprocess")
                yield entry, image, labels
            model.lap("write")
            on_progress(number, len(inputs))
        if len(results.errors) == len(inputs):
            raise none_usable(results.errors)

    def studies() -> Iterator[tuple[Study, LabelMap]]:
        for entry, image, labels in segmented():
            if entry.study is not None:
                yield entry.study, labels
            else:
                results.files += write_masks(labels, image, out, entry.name)

    if any(entry.study is not None for entry in inputs):
        write_run_lengths(out / RUN_LENGTHS, studies(), order)
        results.files.append(out / RUN_LENGTHS)
    else:
        for entry, image, labels in segmented():
            results.files += write_masks(labels, image, out, entry.name)
    table = [["path", "class", "size", "unit"], *([p, c, f"{size:.6g}", u] for p, c, size, u in results.rows)]
    write_text(out / SIZES, to_csv(table))
    model.lap("write")
    return results


def _add_sizes(results: MaskResults, entry: MaskInput, image: Image, labels: LabelMap) -> None:
    unit = "px" if image.spacing_mm is None else ("ml" if len(image.spacing_mm) == 3 else "mm2")
    where = entry.study.id if entry.study is not None else str(entry.path)
    for name, size in zip(labels.classes, measure_sizes(labels, image.spacing_mm), strict=True):
        results.rows.append((where, name, float(size), unit))
