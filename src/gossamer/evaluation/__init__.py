"""Measure how good a model is on labelled data.

Owns metrics, bootstrap intervals and thresholds. Does not own reading data, timing or pages.
"""
