"""Measure what a model costs.

Owns every clock and counter: parameters, multiply-accumulates, memory, latency, energy. Does not own accuracy.
"""
