"""Time and memory of a training step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gossamer.nn.models import Network, Segmenter, model_config
from gossamer.profiling.training_step import measure_training_step, training_figures, training_loss


def test_a_step_is_measured_and_its_memory_forecast() -> None:
    config = model_config("unet_16", image_size=(96, 128))
    figures = training_figures(config, batch=3, threads=1, seconds=0.1)
    assert figures["train_step"].value > 0  # type: ignore[operator]
    assert figures["train_step"].unit == "ms"
    assert "batch 3, 1 threads" in figures["train_step"].detail
    if figures["train_memory"].how == "unavailable":
        pytest.skip("this system does not report the memory of a process")
    rise, whole = figures["train_step_memory"].value, figures["train_memory"].value
    weights = 4 * sum(parameter.numel() for parameter in config.build().parameters())
    assert rise is not None
    assert whole is not None
    assert 4 * weights < rise < whole  # at least weights, gradients and two moments
    assert figures["train_step_memory_forecast"].value == pytest.approx(rise, rel=0.5)


def test_memory_grows_with_the_batch() -> None:
    config = model_config("vit_nano", image_size=(64, 32), patch_size=4, num_classes=2)
    one, many = (measure_training_step(config, batch=batch, threads=1, seconds=0.0) for batch in (1, 9))
    assert one.steps >= 3
    if one.step_bytes is None or many.step_bytes is None:
        pytest.skip("this system does not report the memory of a process")
    # Eight more images: the hidden features of six blocks are kept for each.
    assert many.step_bytes - one.step_bytes > 8 * 6 * 128 * 512 * 4


def test_the_loss_of_a_classifier_is_cross_entropy() -> None:
    network = model_config("vit_nano", image_size=(16, 24), patch_size=8, num_classes=3, dropout=0.0).build().train()
    images, truth = torch.randn(2, 3, 16, 24), torch.tensor([2, 0])
    torch.testing.assert_close(training_loss(network, images, truth), F.cross_entropy(network(images), truth))


def test_all_heads_and_penalties_are_in_the_loss() -> None:
    network: Network = model_config("apformer_small", image_size=(64, 32)).build().train()
    assert isinstance(network, Segmenter)
    network.begin_epoch(1.0)
    loss = training_loss(network, torch.randn(2, network.config.in_channels, 64, 32), torch.ones(2, 64, 32).long())
    loss.backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
