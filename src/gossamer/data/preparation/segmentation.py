"""Images with masks to slices that a segmentation network is trained on.

Planning decodes up to 64 training cases twice, for the survey and to fit the steps; preparation decodes every case
again and keeps it as float16, on the grid that the network sees. Evaluation and prediction read the files again and
keep float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.data.dataset import Sample
from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.data.preparation.classification import describe_reading, fitting_samples, percentile_range
from gossamer.data.segmentation import SegmentationDataset
from gossamer.data.transforms import (
    Channels,
    Preprocessing,
    Respace,
    ScaleIntensity,
    Standardize,
    StandardizeEach,
    nearest_planes,
)
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.progress import SILENT, Progress

LARGEST_WINDOW = 160
FITTING_CASES = 64
SPACINGS_AGREE = 1.05
"""Spacings whose ratio is below this count as equal."""
MAX_CLASSES = 16


@dataclass(frozen=True)
class SegmentationSurvey:
    """Properties of the training cases, from a seeded sample of them.

    Attributes:
        shape: Median ``(rows, columns)``.
        largest: Largest number of rows and of columns.
        slices: Median number of slices.
        channels: Number of channels of an image.
        stored: Type of the stored values.
        low: Stored value that is shown as black.
        high: Stored value that is shown as white.
        spacing_mm: Median spacing of ``(rows, columns)`` in mm, or None where it is unknown.
        spacings_differ: Whether the spacing differs from case to case, or between rows and columns.
    """

    shape: tuple[int, int]
    largest: tuple[int, int]
    slices: int
    channels: int
    stored: str
    low: float
    high: float
    spacing_mm: tuple[float, float] | None
    spacings_differ: bool


def survey_dataset(dataset: SegmentationDataset, seed: int = 0) -> SegmentationSurvey:
    """Survey up to 64 cases of the training split.

    Raises:
        GossamerError: ``E-VALUE`` for pictures of different types on one scale, ``E-MISSING`` for a case without
            slices, and the errors of reading.
    """
    images = [dataset.read(sample).image for sample in fitting_samples(dataset, seed, FITTING_CASES)]
    kinds = {image.array.dtype.name: image.source for image in images}
    if len(kinds) > 1 and dataset.normalize == "dataset" and not dataset.volumes:
        examples = ", ".join(f"{kind} ({source})" for kind, source in sorted(kinds.items()))
        raise GossamerError(
            ErrorCode.VALUE, dataset.source, f"the images hold different types: {examples}", "convert them to one type"
        )
    if not images or not all(image.array.size for image in images):
        raise GossamerError(ErrorCode.MISSING, dataset.source, "a case has no slices", "exclude it")
    stored = images[0].array.dtype.name
    low, high = (0.0, 255.0) if stored == "uint8" else percentile_range(images, seed)
    shapes = np.array([image.spatial_shape[-2:] for image in images])
    median = np.median(shapes, axis=0).round().astype(int)
    spacing, differ = _survey_spacing(images)
    return SegmentationSurvey(
        shape=(int(median[0]), int(median[1])),
        largest=(int(shapes[:, 0].max()), int(shapes[:, 1].max())),
        slices=round(float(np.median([_count_slices(image) for image in images]))),
        channels=_count_channels(images),
        stored=stored,
        low=low,
        high=high,
        spacing_mm=spacing,
        spacings_differ=differ,
    )


def choose_image_size(found: SegmentationSurvey, multiple: int) -> tuple[int, int]:
    """Return the size that the network sees: that of the largest slice, at most 160 pixels a side.

    Args:
        found: Survey of the training cases.
        multiple: Number that rows and columns are a multiple of.
    """
    scale = (1.0, 1.0)
    if found.spacings_differ and found.spacing_mm is not None:
        target = choose_spacing(found)
        scale = (found.spacing_mm[0] / target[0], found.spacing_mm[1] / target[1])
    sides = [min(LARGEST_WINDOW, math.ceil(size * factor)) for size, factor in zip(found.largest, scale, strict=True)]
    rows, columns = (max(multiple, math.ceil(side / multiple) * multiple) for side in sides)
    return rows, columns


def choose_spacing(found: SegmentationSurvey) -> tuple[float, float]:
    """Return the spacing in mm that all cases are resampled to: the finer median, the same for rows and columns."""
    assert found.spacing_mm is not None
    finer = min(found.spacing_mm)
    return finer, finer


def fit_preprocessing(dataset: SegmentationDataset, found: SegmentationSurvey, seed: int = 0) -> Preprocessing:
    """Return the steps from stored values to the network's input, fitted on the training split. Sizes are kept.

    Cases of different spacing are resampled to one spacing. Values on a common scale are standardized over the data
    set, others over the case or slice.
    """
    steps: list[object] = [Channels(found.channels)]
    if found.spacing_mm is not None:
        # Also where all training images agree: an image of another hospital may differ.
        wanted = choose_spacing(found) if found.spacings_differ else found.spacing_mm
        rows_mm, columns_mm = (round(mm, 6) for mm in wanted)
        steps.append(Respace(rows_mm, columns_mm, required=found.spacings_differ, tolerance=SPACINGS_AGREE))
    if dataset.normalize != "dataset":
        over = "slice" if dataset.normalize == "slice" else "case"
        return Preprocessing((*steps, StandardizeEach(over)))
    if not found.low < found.high:
        problem = f"all pixels of the sample have the value {found.low:g}"
        raise GossamerError(ErrorCode.VALUE, dataset.source, problem, "check the images")
    # Hounsfield units mean the same in every type.
    scale = ScaleIntensity(found.low, found.high, None if dataset.volumes else found.stored)
    count, total, squares = 0, 0.0, 0.0
    for sample in fitting_samples(dataset, seed, FITTING_CASES):
        array = scale(dataset.read(sample).image).array
        count, total = count + array.size, total + float(array.sum(dtype=np.float64))
        squares += float(np.square(array, dtype=np.float64).sum())
    mean = total / count
    std = math.sqrt(max(squares / count - mean**2, 0.0))
    if std == 0:
        raise GossamerError(ErrorCode.VALUE, dataset.source, "the prepared images are constant", "check the images")
    return Preprocessing((steps[0], scale, *steps[1:], Standardize(round(mean, 6), round(std, 6))))


@dataclass(frozen=True)
class PreparedCase:
    """One case as the network's input.

    Attributes:
        sample: Sample.
        slices: Prepared slices, float16 ``(slices, channels, rows, columns)``.
        codes: Classes of the pixels, uint8 or uint16 ``(slices, rows, columns)``: the number of the class, counted from
            1; or, for overlapping classes, one bit per class.
        fingerprint: SHA-256 of the stored pixels.
    """

    sample: Sample
    slices: np.ndarray
    codes: np.ndarray
    fingerprint: str


@dataclass(frozen=True)
class PreparedCases:
    """The cases of one split.

    Attributes:
        cases: Prepared cases.
        notes: Decisions that were made while reading.
    """

    cases: tuple[PreparedCase, ...]
    notes: tuple[Note, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Samples of the cases."""
        return tuple(case.sample for case in self.cases)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of the stored pixels of each case."""
        return tuple(case.fingerprint for case in self.cases)


def prepare_split(
    dataset: SegmentationDataset,
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    progress: Progress = SILENT,
) -> PreparedCases:
    """Decode and preprocess ``samples``; masks are resampled to the nearest pixel.

    Args:
        dataset: Data set of the samples.
        samples: Samples to prepare.
        preprocessing: Steps from stored values to the network's input.
        progress: Receiver of the number of samples that were prepared.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for more than 16 overlapping classes, and the errors of reading and of the
            steps.
    """
    if dataset.overlapping and len(dataset.classes) > MAX_CLASSES:
        problem = f"has {len(dataset.classes)} overlapping classes, at most {MAX_CLASSES} are supported"
        raise GossamerError(ErrorCode.UNSUPPORTED, dataset.source, problem, "remove some of them")
    cases: list[PreparedCase] = []
    notes: list[Note] = []
    with progress.track_steps(describe_reading(samples)) as update:
        for number, sample in enumerate(samples, start=1):
            image, labels = dataset.read(sample)
            stack = preprocessing.network_stack(image)
            codes = nearest_planes(encode_labels(labels), (stack.shape[2], stack.shape[3]))
            cases.append(PreparedCase(sample, stack.astype(np.float16), codes, image.fingerprint()))
            notes += image.notes
            update(number, len(samples))
    return PreparedCases(tuple(cases), tuple(notes))


def absent_classes(prepared: PreparedCases, classes: Sequence[str], *, overlapping: bool) -> list[str]:
    """Return the classes that are in no case."""
    present = 0
    for case in prepared.cases:
        for code in np.unique(case.codes).tolist():
            present |= code if overlapping else (1 << code >> 1)
    return [name for number, name in enumerate(classes) if not present >> number & 1]


def encode_labels(labels: LabelMap) -> np.ndarray:
    """Return the codes ``(slices, rows, columns)`` of a label map: class numbers, or one bit per class."""
    planes = labels.planes if labels.planes.ndim == 4 else labels.planes[:, None]
    if not labels.overlapping:
        return labels.indices().reshape(planes.shape[1:])
    codes = np.zeros(planes.shape[1:], dtype=np.uint8 if len(planes) <= 8 else np.uint16)
    for number, plane in enumerate(planes):
        codes |= plane.astype(codes.dtype) << number
    return codes


def _survey_spacing(images: Sequence[Image]) -> tuple[tuple[float, float] | None, bool]:
    if any(image.spacing_mm is None for image in images):
        return None, False
    spacings = np.array([image.spacing_mm[-2:] for image in images if image.spacing_mm is not None])
    median = np.median(spacings, axis=0)
    differ = bool(spacings.max() / spacings.min() > SPACINGS_AGREE)
    return (float(median[0]), float(median[1])), differ


def _count_slices(image: Image) -> int:
    return image.spatial_shape[0] if "slices" in image.axes else 1


def _count_channels(images: Sequence[Image]) -> int:
    """Return the number of channels of the images; 1 if all colours are grey."""
    most = max(image.channels for image in images)
    grey = all(image.channels == 1 or np.all(image.array == image.array[..., :1]) for image in images)
    return 1 if grey and most == 3 else most
