"""Images and volumes without labels to masks in their own format, with the size of each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.data.datasets.rle_csv import write_run_lengths
from gossamer.data.datasets.studies import Study, find_studies
from gossamer.data.image import Image
from gossamer.data.io import RASTER_SUFFIXES, read_image
from gossamer.data.io.nifti import is_nifti, read_nifti
from gossamer.data.io.rle import Order
from gossamer.data.io.write_masks import mask_stem, write_masks
from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.evaluate.evaluate_masks import sizes
from gossamer.evaluate.predictions import to_csv
from gossamer.evaluate.segment import MaskModel
from gossamer.files import write_text

RUN_LENGTHS = "submission.csv"
SIZES = "sizes.csv"


@dataclass(frozen=True)
class MaskInput:
    """Something to segment: a picture, a NIfTI volume, or a study of slices.

    Attributes:
        path: as the user named it, or as it was found in a folder.
        name: file name of the masks, with the suffix of the image; unique among all inputs.
        study: where it is a study of the UW-Madison layout.
    """

    path: Path
    name: str
    study: Study | None = None

    def read(self, *, channels: bool) -> Image:
        """Return the image; ``channels`` where the network takes several, so that a NIfTI may have a fourth axis."""
        if self.study is not None:
            return self.study.read()
        return read_nifti(self.path, channels=channels) if is_nifti(self.path) else read_image(self.path)


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


def find_inputs(paths: Sequence[Path]) -> list[MaskInput]:
    """Return the images among ``paths`` and inside its folders, in order; a folder of studies gives its studies.

    Raises:
        GossamerError: ``E-MISSING`` where a path is not there or holds no image; ``E-OUTPUT`` where two inputs would
            have masks of one name.
    """
    found: list[MaskInput] = []
    for path in paths:
        if not path.exists():
            raise GossamerError(ErrorCode.MISSING, path, "no such file or folder", "check the path")
        if not path.is_dir():
            found.append(MaskInput(path, path.name))
        elif root := _root_of_studies(path):
            studies = find_studies(root).values()
            here = path.absolute()
            inside = [study for study in studies if any(here in file.parents for file in study.slices.values())]
            found += [MaskInput(root, study.id, study) for study in inside]
        else:
            inside = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
            images = [file for file in inside if is_nifti(file) or file.suffix.lower() in RASTER_SUFFIXES]
            found += [MaskInput(file, file.relative_to(path).as_posix().replace("/", "-")) for file in images]
    if not found:
        where = ", ".join(str(path) for path in paths) or "gossamer predict"
        remedy = f"name files or folders with .nii, .nii.gz, {', '.join(RASTER_SUFFIXES)}"
        raise GossamerError(ErrorCode.MISSING, where, "no images", remedy)
    names: dict[str, Path] = {}
    for entry in found:
        stem = mask_stem(entry.name)
        if stem in names:
            problem = f"{names[stem]} and {entry.path} would have masks of one name"
            raise GossamerError(ErrorCode.OUTPUT, entry.path, problem, "predict them into different folders")
        names[stem] = entry.path
    return found


def _root_of_studies(path: Path) -> Path | None:
    """Return the folder of the cases that ``path`` holds, is one of, or lies in; None where it has no studies."""
    path = path.absolute()
    inside = next((scans for scans in sorted(path.rglob("scans")) if any(scans.glob("slice_*.png"))), None)
    scans = path if path.name == "scans" and any(path.glob("slice_*.png")) else inside
    return None if scans is None else scans.parents[2]


def predict_masks(
    model: MaskModel,
    inputs: Sequence[MaskInput],
    out: Path,
    *,
    channels: bool,
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
        channels: whether a NIfTI may have channels as its fourth axis.
        order: in which run lengths count pixels.
        strict: raise the first error.
        on_progress: called with the number of inputs done, and their total.
    """
    results = MaskResults()

    def segmented() -> Iterator[tuple[MaskInput, Image, LabelMap]]:
        for number, entry in enumerate(inputs, start=1):
            try:
                image = entry.read(channels=channels)
                labels = model(image)
            except GossamerError as error:
                if strict:
                    raise
                results.errors.append((entry.path, error))
            else:
                results.notes += image.notes
                _add_sizes(results, entry, image, labels)
                yield entry, image, labels
            on_progress(number, len(inputs))

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
    return results


def _add_sizes(results: MaskResults, entry: MaskInput, image: Image, labels: LabelMap) -> None:
    unit = "px" if image.spacing_mm is None else ("ml" if len(image.spacing_mm) == 3 else "mm2")
    where = entry.study.id if entry.study is not None else str(entry.path)
    for name, size in zip(labels.classes, sizes(labels, image.spacing_mm), strict=True):
        results.rows.append((where, name, float(size), unit))
