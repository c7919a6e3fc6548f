"""Blocks that are evaluated again in the backward pass: the same gradients, for less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gossamer
from gossamer.nn.models import Network, model_config
from gossamer.nn.recompute import recompute_blocks
from gossamer.profiling.training_memory import forecast_training_memory

VIT: dict[str, Any] = {"image_size": (20, 12), "patch_size": 4, "dim": 16, "depth": 3, "num_heads": 2, "in_channels": 2}


def gradients(network: Network, images: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(11)
    output = network.training_output(images)
    output.add_penalty(output.logits.square().mean()).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["softmax", "adaptive", "soft"])
def test_gradients_are_the_same_with_dropout_and_stochastic_depth(attention: str) -> None:
    torch.manual_seed(0)
    network = gossamer.create_model("vit_tiny", attention=attention, dropout=0.3, drop_path=0.4, **VIT).train()
    images = torch.randn(5, 2, 20, 12)
    wanted = gradients(network, images)
    network.zero_grad()
    assert recompute_blocks(network) == 3
    found = gradients(network, images)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7)


def test_gradients_of_segmenters_are_the_same() -> None:
    torch.manual_seed(0)
    network = gossamer.create_model("apformer_small", image_size=(24, 16), in_channels=1, num_classes=3).train()
    network.begin_epoch(0.0)
    images = torch.randn(2, 1, 24, 16)
    wanted = gradients(network, images)
    network.zero_grad()
    assert recompute_blocks(network) == 3
    for name, gradient in gradients(network, images).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_evaluation_is_not_touched() -> None:
    network = gossamer.create_model("vit_tiny", attention="softmax", **VIT).eval()
    images = torch.randn(2, 2, 20, 12)
    before = network(images)
    recompute_blocks(network)
    assert torch.equal(network(images), before)
    assert set(network.state_dict()) == set(gossamer.create_model("vit_tiny", attention="softmax", **VIT).state_dict())


def test_forecast_grows_with_batch_and_shrinks_with_recompute() -> None:
    config = model_config("vit_tiny", attention="softmax", **{**VIT, "image_size": (40, 24), "depth": 8})
    one, four = (forecast_training_memory(config, batch) for batch in (2, 8))
    again = forecast_training_memory(config, 8, recompute=True)
    half = forecast_training_memory(config, 8, bfloat16=True)
    assert one is not None
    assert four is not None
    assert again is not None
    assert half is not None
    weights = 4 * sum(parameter.numel() for parameter in config.build().parameters())
    assert one.weights == weights
    assert one.optimizer == 2 * weights
    # What is kept of a batch grows with it; the gradients do not.
    assert 3.0 * (one.step - weights) < four.step < 4.5 * one.step
    assert again.step < 0.5 * four.step
    assert half.step < 0.8 * four.step
