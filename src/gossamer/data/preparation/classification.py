"""Labelled images of any size to arrays of one size, for training and evaluation.

Planning decodes up to 256 training images twice, for the survey and to fit the steps; preparation decodes every image
again. The steps are fitted on the training split alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.data.classification import ClassificationDataset
from gossamer.data.dataset import Dataset, Sample
from gossamer.data.image import Image
from gossamer.data.transforms import Channels, FitWithin, Pad, Preprocessing, Resize, ScaleIntensity, Standardize
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.progress import SILENT, Progress

FITTING_IMAGES = 256
LONGEST_SIDE = 224
_PERCENTILES = (0.1, 99.9)
_PIXELS_PER_IMAGE = 4096


@dataclass(frozen=True)
class ClassificationSurvey:
    """Properties of the training images, from a seeded sample of them.

    Attributes:
        shape: Median ``(rows, columns)``.
        same_shape: Whether all images have that shape.
        channels: 3 if an image has colours, else 1.
        stored: Type of the stored values.
        low: Stored value that is shown as black.
        high: Stored value that is shown as white.
    """

    shape: tuple[int, int]
    same_shape: bool
    channels: int
    stored: str
    low: float
    high: float


def survey_dataset(dataset: ClassificationDataset, seed: int = 0) -> ClassificationSurvey:
    """Survey up to 256 images of the training split.

    8-bit images keep their full range. For others the range is that of the 0.1 and 99.9 percentiles, since sensors
    rarely use all values of the type.

    Raises:
        GossamerError: ``E-VALUE`` for images of different types, or without contrast, and the errors of reading.
    """
    images = [dataset.read(sample) for sample in fitting_samples(dataset, seed)]
    kinds = {image.array.dtype.name: image.source for image in images}
    if len(kinds) > 1:
        examples = ", ".join(f"{kind} ({source})" for kind, source in sorted(kinds.items()))
        raise GossamerError(
            ErrorCode.VALUE, dataset.source, f"the images hold different types: {examples}", "convert them to one type"
        )
    stored = next(iter(kinds))
    shapes = [image.spatial_shape for image in images]
    low, high = (0.0, 255.0) if stored == "uint8" else percentile_range(images, seed)
    if not low < high:
        problem = f"all pixels of the sample have the value {low:g}"
        raise GossamerError(ErrorCode.VALUE, dataset.source, problem, "check the images")
    rows, columns = (round(float(np.median([shape[axis] for shape in shapes]))) for axis in (0, 1))
    channels = 3 if any(_is_coloured(image) for image in images) else 1
    return ClassificationSurvey((rows, columns), len(set(shapes)) == 1, channels, stored, low, high)


def choose_image_size(found: ClassificationSurvey, multiple: int | None = None) -> tuple[int, int]:
    """Return the size that the network sees: near that of the images, at most 224 pixels on the longer side.

    Args:
        found: Survey of the training images.
        multiple: Number that rows and columns are a multiple of (default: 4 up to 64 pixels, 16 above).
    """
    scale = min(1.0, LONGEST_SIDE / max(found.shape))
    rows, columns = (size * scale for size in found.shape)
    step = multiple or (4 if max(rows, columns) <= 64 else 16)
    return max(step, round(rows / step) * step), max(step, round(columns / step) * step)


def fit_preprocessing(
    dataset: ClassificationDataset,
    found: ClassificationSurvey,
    image_size: tuple[int, int],
    seed: int = 0,
) -> Preprocessing:
    """Return the steps from stored values to a standardized ``image_size``, fitted on the training split.

    Proportions are kept, with a border at the training mean, unless all images have the proportions of the network's
    input.
    """
    rows, columns = image_size
    distorts = not math.isclose(found.shape[0] * columns, found.shape[1] * rows, rel_tol=0.02)
    stretch = found.same_shape and not distorts
    scale = (Channels(found.channels), ScaleIntensity(found.low, found.high, found.stored))
    resize = Resize(rows, columns) if stretch else FitWithin(rows, columns)
    before = Preprocessing((*scale, resize))
    count, total, squares = 0, 0.0, 0.0
    for sample in fitting_samples(dataset, seed):
        array = before(dataset.read(sample)).array.astype(np.float64)
        count, total, squares = count + array.size, total + array.sum(), squares + (array**2).sum()
    mean = float(total / count)
    std = math.sqrt(max(squares / count - mean**2, 0.0))
    if std == 0:
        raise GossamerError(ErrorCode.VALUE, dataset.source, "the prepared images are constant", "check the images")
    steps = (*before.steps, Standardize(round(mean, 6), round(std, 6)))
    return Preprocessing(steps if stretch else (*steps, Pad(rows, columns)))


@dataclass(frozen=True)
class PreparedImages:
    """The images of one split as the network's input.

    Attributes:
        samples: Samples.
        images: Images of the samples, float32 ``(samples, channels, rows, columns)``.
        targets: Classes of the samples, float32 ``(samples, classes)``: 1 where a sample has a class, else 0.
        fingerprints: SHA-256 of the stored pixels of each sample.
        notes: Decisions that were made while reading.
    """

    samples: tuple[Sample, ...]
    images: np.ndarray
    targets: np.ndarray
    fingerprints: tuple[str, ...]
    notes: tuple[Note, ...]


def prepare_split(
    dataset: ClassificationDataset,
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    progress: Progress = SILENT,
) -> PreparedImages:
    """Decode and preprocess ``samples``.

    Args:
        dataset: Data set of the samples.
        samples: Samples to prepare, at least one.
        preprocessing: Steps that give every image the same size.
        classes: Names of the columns of ``targets``; labels are matched by name, not by number.
        progress: Receiver of the number of samples that were prepared.

    Raises:
        GossamerError: ``E-LABEL`` for a label that is not in ``classes``, and the errors of reading and of the steps.
    """
    columns = _match_classes(dataset, samples, classes)
    images: np.ndarray | None = None
    targets = np.zeros((len(samples), len(classes)), dtype=np.float32)
    fingerprints, notes = [], []
    assert samples, "at least one sample is needed"
    with progress.track_steps(describe_reading(samples)) as update:
        for index, sample in enumerate(samples):
            image = dataset.read(sample)
            array = preprocessing.network_input(image)
            if images is None:
                images = np.empty((len(samples), *array.shape), dtype=np.float32)
            images[index] = array
            targets[index, [columns[label] for label in sample.labels]] = 1
            fingerprints.append(image.fingerprint())
            notes += image.notes
            update(index + 1, len(samples))
    assert images is not None
    return PreparedImages(tuple(samples), images, targets, tuple(fingerprints), tuple(notes))


def describe_reading(samples: Sequence[Sample]) -> str:
    """Return a label for the progress of reading ``samples``, with the split where all are of one."""
    splits = {sample.split for sample in samples}
    return f"reading the {splits.pop()} split" if len(splits) == 1 else "reading images"


def fitting_samples(dataset: Dataset, seed: int, count: int = FITTING_IMAGES) -> list[Sample]:
    """Return up to ``count`` samples of the training split, drawn with ``seed``."""
    samples = dataset.split("train")
    if len(samples) <= count:
        return list(samples)
    chosen = np.random.default_rng([seed, len(samples)]).choice(len(samples), count, replace=False)
    return [samples[index] for index in sorted(chosen)]


def percentile_range(images: Sequence[Image], seed: int) -> tuple[float, float]:
    """Return the 0.1 and 99.9 percentiles of the finite values of some pixels of each image."""
    generator = np.random.default_rng([seed, len(images)])
    pixels = np.concatenate([_finite_pixels(image, generator) for image in images])
    low, high = np.percentile(pixels, _PERCENTILES) if pixels.size else (0.0, 0.0)
    return float(low), float(high)


def _finite_pixels(image: Image, generator: np.random.Generator) -> np.ndarray:
    pixels = generator.choice(image.array.reshape(-1), _PIXELS_PER_IMAGE).astype(np.float64)
    return pixels[np.isfinite(pixels)]


def _is_coloured(image: Image) -> bool:
    return image.channels == 3 and not np.all(image.array == image.array[..., :1])


def _match_classes(dataset: ClassificationDataset, samples: Sequence[Sample], classes: Sequence[str]) -> dict[int, int]:
    known = {name: index for index, name in enumerate(classes)}
    columns = {}
    for sample in samples:
        for label in sample.labels:
            name = dataset.classes[label]
            if name not in known:
                problem = f"label {name!r} ({sample.id}) is not one of the {len(classes)} classes of the model"
                raise GossamerError(ErrorCode.LABEL, dataset.source, problem, f"use one of: {', '.join(classes)}")
            columns[label] = known[name]
    return columns
