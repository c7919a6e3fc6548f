"""A look at every image of a data set: its contents, and faults that prevent training.

Owns the check and its result. Does not own the labels' own faults, which layouts find while they open a data set.
"""
