"""Training of segmentation: the same modules and functions as ``gossamer.training.classification``."""
