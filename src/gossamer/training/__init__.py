"""Fit a network to labelled data.

Owns the training options, the recipe, the training loop and the run folder. Does not own metrics, pages or the command
line. `classification` and `segmentation` hold what the tasks do differently, under the same names.
"""
