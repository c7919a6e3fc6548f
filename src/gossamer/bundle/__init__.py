"""Write a bundle: a trained network as ONNX, all that stands between a file and an answer, and its proof."""
