"""Clocks and counters live here and nowhere else."""
