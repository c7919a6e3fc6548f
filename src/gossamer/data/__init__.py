"""Images and their labels: reading, checking, splitting and preparing data with numpy alone.

Owns everything between files and arrays. Does not own networks; nothing here imports torch.
"""

from gossamer.data.checking.check import check_dataset
from gossamer.data.classification import ClassificationDataset
from gossamer.data.dataset import SPLITS, Dataset, Sample
from gossamer.data.image import Image
from gossamer.data.io import read_image
from gossamer.data.label_map import LabelMap
from gossamer.data.layouts import open_dataset
from gossamer.data.segmentation import LabelledCase, SegmentationDataset

__all__ = [
    "SPLITS",
    "ClassificationDataset",
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
