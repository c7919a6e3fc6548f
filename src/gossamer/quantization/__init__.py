"""Quantize a model to int8 within an accuracy limit.

Owns calibration, quantization schemes and the comparison with float32. Does not own the bundle format.
"""
