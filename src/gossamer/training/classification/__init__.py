"""Training of classification: the twin of ``gossamer.training.segmentation``, with the same modules and functions."""
