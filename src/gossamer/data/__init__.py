"""Images, never networks: reading, checking, splitting and preparing data with numpy alone."""

from gossamer.data.datasets import (
    Dataset,
    LabelledCase,
    Sample,
    SegmentationDataset,
    check_dataset,
    open_dataset,
)
from gossamer.data.image import Image
from gossamer.data.io import read_image
from gossamer.data.label_map import LabelMap

__all__ = [
    "Dataset",
    "Image",
    "LabelMap",
    "LabelledCase",
    "Sample",
    "SegmentationDataset",
    "check_dataset",
    "open_dataset",
    "read_image",
]
