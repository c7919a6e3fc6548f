"""Training of segmentation: the twin of ``gossamer.training.classification``, with the same modules and functions."""
