"""The outside references are MONAI's networks, their cost is counted, and importing the table leaves MONAI alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import gossamer
from expected_errors import expect_error
from gossamer.profiling.macs import count_macs

NAMES = ["monai_unet", "monai_swin_unetr"]
every_network = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize(("name", "parameters"), [("monai_unet", 1_625_161), ("monai_swin_unetr", 1_590_128)])
def test_size(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = gossamer.create_model(name)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_networks_are_monais() -> None:
    from monai.networks.nets.swin_unetr import SwinUNETR
    from monai.networks.nets.unet import UNet

    images = torch.randn(2, 2, 32, 64)
    unet = UNet(2, 2, 3, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
    swin = SwinUNETR(2, 3, feature_size=12, spatial_dims=2)
    for name, theirs in (("monai_unet", unet), ("monai_swin_unetr", swin)):
        ours = gossamer.create_model(name, in_channels=2, num_classes=3)
        ours.network.load_state_dict(theirs.state_dict())  # type: ignore[union-attr]
        assert torch.equal(ours.eval()(images), theirs.eval()(images))


@every_network
@pytest.mark.parametrize("size", [(32, 64), (96, 160)])
def test_counted_macs_equal_the_closed_form(name: str, size: tuple[int, int]) -> None:
    # The larger image has more pixels than a 7 x 7 window at all but the last stages, hence shifts and padding.
    model = gossamer.create_model(name, in_channels=2, num_classes=3)
    assert count_macs(model, torch.zeros(1, 2, *size)).total == model.cost(size).macs


@every_network
def test_logits_do_not_depend_on_the_batch(name: str) -> None:
    torch.manual_seed(0)
    model = gossamer.create_model(name, in_channels=2, num_classes=3, image_size=(64, 32)).double().eval()
    images = torch.randn(3, 2, 32, 96, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (3, 3, 32, 96)
    torch.testing.assert_close(logits[1:2], model(images[1:2]))
    logits.square().sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@every_network
def test_one_batch_is_overfitted(name: str) -> None:
    torch.manual_seed(0)
    model = gossamer.create_model(name, image_size=(32, 64))
    masks = torch.randint(0, 2, (2, 4, 8)).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    images = masks[:, None] + 0.5 * torch.randn(2, 1, 32, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(25):
        loss = F.cross_entropy(model(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(images).argmax(dim=1) == masks).float().mean() > 0.97


def test_the_table_of_networks_does_not_import_monai() -> None:
    code = "import sys, gossamer.nn.models; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_refuses_bad_values() -> None:
    with expect_error("image_size", "40x64", 16, "48x64"):
        gossamer.create_model("monai_unet", image_size=(40, 64))
    with expect_error("image_size", "16x16", "32x32"):
        gossamer.create_model("monai_unet", image_size=(16, 16))
    with expect_error("image_size", "48x64", 32, "64x64"):
        gossamer.create_model("monai_swin_unetr", image_size=(48, 64))
    with expect_error("image_size", "32x32", "64x64"):
        gossamer.create_model("monai_swin_unetr", image_size=(64, 32))(torch.zeros(2, 1, 32, 32))
    with expect_error("feature_size", 16, 12):
        gossamer.create_model("monai_swin_unetr", feature_size=16)
    with expect_error("channels", 0):
        gossamer.create_model("monai_unet", channels=(16, 0, 64, 128, 256))
    with expect_error("attention"):
        gossamer.create_model("monai_unet", attention="kv")
