"""A torch network as a function of arrays: in evaluation mode, its logits made probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.evaluation.torch_network import as_predict
from gossamer.inference.decisions import probabilities_of


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_it_answers_as_numpy_does_of_its_logits(pooled: bool, multi_label: bool) -> None:
    torch.manual_seed(0)
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else []
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(2, 3, 3, padding=1), *tail).train()
    images = np.random.default_rng(0).normal(size=(4, 2, 11, 13)).astype(np.float32)
    found = as_predict(network, multi_label=multi_label)(images)
    assert not network.training
    assert found.dtype == np.float32
    with torch.no_grad():
        logits = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, probabilities_of(logits, multi_label=multi_label), rtol=0, atol=2e-7)
