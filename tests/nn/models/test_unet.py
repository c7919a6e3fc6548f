"""The UNet of the SaDNN paper: published counts, the shape of the network, and what it refuses."""

from __future__ import annotations

import pytest
import torch

import gossamer
from expected_errors import expect_error
from gossamer.profiling.macs import count_macs


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("unet", 31_036_546, 48_096_083_968),
        ("unet_32", 7_762_498, 12_035_555_328),
        ("unet_16", 1_942_306, 3_014_656_000),
    ],
)
def test_published_size(name: str, parameters: int, macs: int) -> None:
    with torch.device("meta"):
        model = gossamer.create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.cost((256, 256)).macs == macs


def test_counted_macs_equal_the_closed_form_at_another_size() -> None:
    model = gossamer.create_model("unet_16", in_channels=2, num_classes=3, image_size=(64, 64))
    assert count_macs(model, torch.zeros(1, 2, 32, 80)).total == model.cost((32, 80)).macs


def test_logits_have_the_images_size_for_any_batch() -> None:
    torch.manual_seed(0)
    model = gossamer.create_model("unet", in_channels=2, num_classes=3, width=4, image_size=(48, 32)).double().eval()
    images = torch.randn(3, 2, 48, 80, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (3, 3, 48, 80)
    torch.testing.assert_close(logits[1:2], model(images[1:2]))


def test_pixels_reach_the_far_corner_only_through_the_levels() -> None:
    torch.manual_seed(0)
    model = gossamer.create_model("unet", in_channels=1, width=4, image_size=(64, 48)).double().eval()
    image = torch.zeros(2, 1, 64, 48, dtype=torch.float64)
    image[1, 0, 0, 0] = 1.0
    first, second = model(image)
    assert (first - second).abs().amax(dim=0)[-1, -1] > 0
    with torch.no_grad():
        model.widen[-1].weight.zero_()  # type: ignore[index]
    # What is left are the four convolutions at full resolution: the join, and four pixels each way.
    first, second = model(image)
    moved = (first - second).abs().amax(dim=0) > 0
    assert moved[:5, :5].any(dim=0).all()
    assert moved[5:].sum() == moved[:, 5:].sum() == 0


def test_refuses_bad_values() -> None:
    with expect_error("image_size", "40x64", 16, "48x64"):
        gossamer.create_model("unet_16", image_size=(40, 64))
    with expect_error("width", 0):
        gossamer.create_model("unet", width=0)
    model = gossamer.create_model("unet", width=2, image_size=(32, 32))
    with expect_error("in_channels", 3, 1):
        model(torch.zeros(2, 3, 32, 32))
    with expect_error("attention"):
        gossamer.create_model("unet", attention="kv")
