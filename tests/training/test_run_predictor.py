"""A torch network as a function of arrays, and its logits as probabilities, compared with torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.inference.decisions import compute_probabilities
from gossamer.training.run_predictor import wrap_network


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_logits_and_probabilities_equal_those_of_torch(pooled: bool, multi_label: bool) -> None:
    torch.manual_seed(0)
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else []
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(2, 3, 3, padding=1), *tail).train()
    images = np.random.default_rng(0).normal(size=(4, 2, 11, 13)).astype(np.float32)
    logits = wrap_network(network)(images)
    assert not network.training
    assert logits.dtype == np.float32
    with torch.no_grad():
        expected = network(torch.from_numpy(images))
    np.testing.assert_array_equal(logits, expected.numpy())
    probabilities = torch.sigmoid(expected) if multi_label else torch.softmax(expected, dim=1)
    found = compute_probabilities(logits, multi_label=multi_label)
    np.testing.assert_allclose(found, probabilities.numpy(), rtol=0, atol=2e-7)
