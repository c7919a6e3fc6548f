"""The meter's multiply-accumulates are those that were computed by hand from the papers' networks.

The figures leave out products of biases and statistics, which the meter counts; so they agree to half a percent, not to
the last digit. Tests of the networks hold the exact ones.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import gossamer
from gossamer.nn.attention.adaptive import AdaptiveConfig
from gossamer.profiling.macs import count_macs

PUBLISHED = [
    # name, attention, rows and columns, channels, classes, GMACs
    ("vit_small", "softmax", 224, 3, 1000, 4.5989),
    ("vit_small", "sequence_norm", 224, 3, 1000, 4.3574),
    ("vit_base", "softmax", 224, 3, 1000, 17.5638),
    ("setr_pup_base", "kv", 256, 3, 3, 34.527),
    ("transunet", "softmax", 224, 3, 4, 29.189603328),
    ("transunet", "kv", 224, 3, 4, 27.802337280),
    ("cvt_13", "softmax", 256, 3, 3, 8.584527872),
    ("apformer", AdaptiveConfig(head_dim=128, gate="none"), 256, 3, 2, 10.684203008),
    ("sumnet", None, 256, 1, 2, 106.342383616),
    ("unet", None, 256, 1, 2, 48.096083968),
    ("resnet_18", None, 512, 1, 14, 9.063898112),
    ("resnet_50", None, 512, 1, 14, 20.942188544),
]


@pytest.mark.parametrize(("name", "attention", "side", "channels", "classes", "gmacs"), PUBLISHED)
def test_counted_macs_are_those_of_the_page(
    name: str, attention: Any, side: int, channels: int, classes: int, gmacs: float
) -> None:
    given = {} if attention is None else {"attention": attention}
    # Mixed precision and pruning ask for values, which the meta device has none of.
    device = "cpu" if attention == "sequence_norm" or name == "apformer" else "meta"
    with torch.device(device):
        network = gossamer.create_model(
            name, image_size=(side, side), in_channels=channels, num_classes=classes, **given
        )
    images = torch.zeros(1, channels, side, side, device=device)
    assert count_macs(network, images).total / 1e9 == pytest.approx(gmacs, rel=5e-3)


def test_the_inverse_of_soft_is_counted() -> None:
    # Published figures leave out Newton's iteration, here a sixth on top.
    network = gossamer.create_model("soft_tiny", image_size=(224, 224))
    total = count_macs(network, torch.zeros(1, 3, 224, 224)).total
    assert total / 1e9 == pytest.approx(1.8610 + 0.3388, rel=5e-3)


def test_attention_is_counted_unlike_in_pytorch() -> None:
    network = gossamer.create_model("vit_small", attention="softmax").eval()
    images = torch.zeros(1, 3, 224, 224)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(images)
    theirs, ours = counter.get_total_flops() / 2, count_macs(network, images).total
    products = 12 * 2 * 197**2 * 384
    assert ours / 1e9 == pytest.approx(4.5989, rel=1e-4)
    assert theirs == ours - products
    assert 1 - theirs / ours == pytest.approx(0.078, abs=5e-4)
