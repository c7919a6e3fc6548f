"""Images with masks as a value: cases, classes, and how to read a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from gossamer.data.dataset import Dataset, Sample
from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError
from gossamer.task import TaskName


class LabelledCase(NamedTuple):
    """An image and the classes of its pixels, on the same grid."""

    image: Image
    labels: LabelMap


@dataclass(frozen=True)
class SegmentationDataset(Dataset):
    """Cases of one layout, each an image or a volume with one mask per class.

    A sample is a case: one picture, or all slices of one volume. Its ``labels`` are the classes that it is known to
    hold; empty where the masks have to be read to tell. The background is not one of the classes.

    Attributes:
        overlapping: Whether a pixel may belong to several classes.
        volumes: Whether a case is a volume, with the axes ``(slices, rows, columns[, channels])``.
        reader: Function that returns a case.
        normalize: Set of pixels whose intensities are standardized together: ``dataset``, where stored values mean the
            same in all images (8-bit pictures, Hounsfield units); ``case``, where each image has its own scale
            (magnetic resonance); ``slice``, where each slice may be read alone (default: ``dataset``).
    """

    task: ClassVar[TaskName] = "segment"
    overlapping: bool = field(kw_only=True)
    volumes: bool = field(kw_only=True)
    reader: Callable[[Sample], LabelledCase] = field(repr=False, compare=False, kw_only=True)
    normalize: str = field(default="dataset", kw_only=True)

    @property
    def task_description(self) -> str:
        """The task in words: ``segmentation`` or ``segmentation of overlapping classes``."""
        return "segmentation of overlapping classes" if self.overlapping else "segmentation"

    def read(self, sample: Sample) -> LabelledCase:
        """Return the image and the masks of a case.

        Raises:
            GossamerError: ``E-GEOMETRY`` for grids that differ, ``E-LABEL`` for a value of a mask without a name, and
                the errors of reading.
        """
        case = self.reader(sample)
        if case.image.spatial_shape != case.labels.spatial_shape:
            shapes = ["x".join(map(str, shape)) for shape in (case.image.spatial_shape, case.labels.spatial_shape)]
            problem = f"the image has {shapes[0]} pixels, the mask has {shapes[1]}"
            raise GossamerError(ErrorCode.GEOMETRY, case.labels.source, problem, "export both on one grid")
        return case

    def read_image(self, sample: Sample) -> Image:
        """Return the image of a case without its masks.

        Raises:
            GossamerError: As ``read``.
        """
        return self.read(sample).image

    def content_digest(self, sample: Sample) -> bytes:
        """Return bytes that identify the pixels of a case and of its masks.

        Raises:
            GossamerError: As ``read``.
        """
        case = self.read(sample)
        return case.image.fingerprint().encode() + np.packbits(case.labels.planes).tobytes()

    def require_trainable(self) -> None:
        """Raise unless a network can be trained on the masks.

        Raises:
            GossamerError: The first fault, with the number of others; ``E-LABEL`` for a data set without classes.
        """
        self.require_faultless()
        if not self.classes:
            raise GossamerError(ErrorCode.LABEL, self.source, "there is no class", "name the values of the masks")

    def require_splits(self) -> None:
        """Raise unless there are cases to train on, and cases to choose the best epoch with.

        Raises:
            GossamerError: ``E-MISSING``.
        """
        for split in ("train", "val"):
            if not any(sample.split == split for sample in self.samples):
                problem = f"has {len(self.samples)} case{'' if len(self.samples) == 1 else 's'} and no {split} split"
                remedy = "add cases, at least three, or state the splits"
                raise GossamerError(ErrorCode.MISSING, self.source, problem, remedy)
