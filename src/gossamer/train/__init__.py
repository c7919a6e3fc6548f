"""Fit a network to labelled images, and keep everything that is needed to believe and to repeat it."""
