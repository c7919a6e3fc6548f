"""Run a trained model on images with numpy and an engine, without PyTorch.

Owns predictors, engines, the reader of bundles and the writer of predictions. Does not own labels, metrics or training.
"""
