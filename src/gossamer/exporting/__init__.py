"""Write a trained run as a bundle that runs without PyTorch.

Owns the ONNX export, the parity check, the model card and the writing of bundles. Does not own the reading of bundles,
which is `inference`, or making them smaller, which is `quantization`.
"""
