"""Quantize a trained network to int8 within an accuracy limit.

Owns calibration, the quantization schemes, their verification and the accuracy loss. Does not own the ONNX export,
which is `exporting`, or the report of a quantization, which is `report`.
"""
