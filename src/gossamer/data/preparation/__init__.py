"""From a data set to arrays of the size that a network takes.

Owns the survey, the checks and the preprocessing of whole splits. Does not own layouts or training.
"""
