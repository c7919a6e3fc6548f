"""Run a bundle: numpy and ONNX Runtime, never torch. Readers, transforms and windows are those of training."""
