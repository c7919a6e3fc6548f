"""A torch network as the function of arrays that the runtime takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gossamer.data.windows import Predict


def as_predict(network: nn.Module, *, multi_label: bool) -> Predict:
    """Return ``network`` in evaluation mode, as a function of images to probabilities, float32.

    Args:
        network: images ``(batch, channels, rows, columns)`` to logits ``(batch, classes, ...)``.
        multi_label: whether any number of classes may hold, a sigmoid for each; else a softmax.
    """
    network.eval()

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = network(torch.from_numpy(images)).float()
            return (torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=1)).numpy()

    return predict
