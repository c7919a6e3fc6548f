"""Write a trained run as a bundle that runs without PyTorch.

Owns the ONNX export, the parity check and the model card. Does not own reading bundles, which is `inference`.
"""
