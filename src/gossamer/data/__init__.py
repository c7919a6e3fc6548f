"""Images, never networks: reading, checking, splitting and preparing data with numpy alone."""

from gossamer.data.image import Image
from gossamer.data.io import read_image
from gossamer.data.label_map import LabelMap
from gossamer.data.layouts import (
    ClassificationDataset,
    LabelledCase,
    Sample,
    SegmentationDataset,
    open_dataset,
)
from gossamer.data.preparation.check import check_dataset

__all__ = [
    "ClassificationDataset",
    "Image",
    "LabelMap",
    "LabelledCase",
    "Sample",
    "SegmentationDataset",
    "check_dataset",
    "open_dataset",
    "read_image",
]
