"""Training of classification: the same modules and functions as ``gossamer.training.segmentation``."""
