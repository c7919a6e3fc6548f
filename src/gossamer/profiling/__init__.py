"""Measure what a network costs: parameters, multiply-accumulates, latency, memory and energy.

Owns the measurements and how each figure was obtained. Does not own quality, which is `evaluation`, or the choice of a
network within a budget, which is `planning`.
"""
