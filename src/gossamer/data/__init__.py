"""Images, never networks: reading, checking, splitting and preparing data with numpy alone."""

from gossamer.data.datasets import Dataset, Sample, check_dataset, open_dataset
from gossamer.data.image import Image
from gossamer.data.io import read_image

__all__ = ["Dataset", "Image", "Sample", "check_dataset", "open_dataset", "read_image"]
