"""Residual networks: published counts, the network by hand, and what does not fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gossamer
from expected_errors import expect_error
from gossamer import config
from gossamer.nn.models import Network, config_from_json
from gossamer.nn.models.resnet import ResidualBlock
from gossamer.profiling.macs import count_macs

BLOCKS = ("basic", "bottleneck")


def tiny(**changes: object) -> Network:
    torch.manual_seed(0)
    values = {"width": 6, "depths": (2, 1, 1, 2), "in_channels": 2, "num_classes": 3, "image_size": (37, 26), **changes}
    return gossamer.create_model("resnet_18", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "channels", "classes", "parameters", "macs"),
    [
        ("resnet_18", 1, 14, 11_177_422, 9_063_898_112),
        ("resnet_18", 1, 15, 11_177_935, 9_063_898_624),
        ("resnet_50", 1, 14, 23_530_446, 20_942_188_544),
        ("resnet_50", 1, 15, 23_532_495, 20_942_190_592),
    ],
)
def test_published_size(name: str, channels: int, classes: int, parameters: int, macs: int) -> None:
    with torch.device("meta"):
        model = gossamer.create_model(name, in_channels=channels, num_classes=classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.cost((512, 512)).macs == macs


@pytest.mark.parametrize(("name", "factor"), [("resnet_18", 1), ("resnet_50", 4)])
def test_resolutions_and_widths_of_the_stages(name: str, factor: int) -> None:
    with torch.device("meta"):
        model = gossamer.create_model(name).eval()
    found: list[tuple[int, ...]] = []
    for part in ("stem", *(f"stages.{stage}" for stage in range(4))):
        model.get_submodule(part).register_forward_hook(
            lambda module, inputs, output: found.append(tuple(output.shape[1:]))
        )
    model(torch.zeros(2, 3, 224, 160, device="meta"))
    stages = [(64 * 2**stage * factor, 56 // 2**stage, 40 // 2**stage) for stage in range(4)]
    assert found == [(64, 56, 40), *stages]


@pytest.mark.parametrize(("name", "projections"), [("resnet_18", 3), ("resnet_50", 4)])
def test_a_shortcut_is_the_identity_unless_the_shape_changes(name: str, projections: int) -> None:
    with torch.device("meta"):
        model = gossamer.create_model(name)
    blocks = [module for module in model.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == {"resnet_18": 8, "resnet_50": 16}[name]
    assert sum(not isinstance(block.shortcut, nn.Identity) for block in blocks) == projections


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("stem", ["pooled", "small"])
def test_the_network_is_its_definition(block: str, stem: str) -> None:
    model = tiny(block=block, stem=stem).double()
    images = torch.randn(3, 2, 37, 26, dtype=torch.float64)
    model(images)
    model.eval()
    weights = list(model.state_dict().values())

    def unit(maps: Tensor, kernel: int, stride: int = 1) -> Tensor:
        weight, gain, shift, mean, variance, _ = (weights.pop(0) for _ in range(6))
        assert weight.shape[2:] == (kernel, kernel)
        maps = F.conv2d(maps, weight, stride=stride, padding=kernel // 2)
        gain, shift, mean, variance = (part[:, None, None] for part in (gain, shift, mean, variance))
        return (maps - mean) / (variance + 1e-5).sqrt() * gain + shift

    def residual(maps: Tensor, stride: int, project: bool) -> Tensor:
        if block == "basic":
            branch = unit(unit(maps, 3, stride).relu(), 3)
        else:
            branch = unit(unit(unit(maps, 1).relu(), 3, stride).relu(), 1)
        return torch.relu(branch + (unit(maps, 1, stride) if project else maps))

    maps = unit(images, 7 if stem == "pooled" else 3, 2).relu()
    if stem == "pooled":
        # What is pooled is not negative, so that zeros beyond the border never win.
        rows, columns = (-(-side // 2) for side in maps.shape[2:])
        windows = F.unfold(maps, 3, padding=1, stride=2).unflatten(1, (6, 9))
        maps = windows.amax(dim=2).unflatten(2, (rows, columns))
    for stage, depth in enumerate((2, 1, 1, 2)):
        for place in range(depth):
            first = place == 0
            maps = residual(maps, 2 if stage and first else 1, first and (stage > 0 or block == "bottleneck"))
    wanted = F.linear(maps.flatten(2).mean(dim=2), weights.pop(0), weights.pop(0))
    assert weights == []
    torch.testing.assert_close(model(images), wanted)


def test_a_block_without_its_branch_rectifies_its_input() -> None:
    torch.manual_seed(0)
    block = ResidualBlock("bottleneck", 8, 2, 1, "group").double()
    maps = torch.randn(2, 8, 7, 5, dtype=torch.float64)
    assert (block(maps) - maps.relu()).abs().max() > 1e-3
    nn.init.zeros_(block.branch[-1].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(block(maps), maps.relu())


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("stem", ["pooled", "small"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_any_size_and_the_closed_form(block: str, stem: str, norm: str) -> None:
    model = tiny(block=block, stem=stem, norm=norm).double().eval()
    images = torch.randn(3, 2, 29, 34, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (3, 3)
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    torch.testing.assert_close(logits[1:2], model(images[1:2]))
    assert count_macs(model, images[:1]).total == model.cost((29, 34)).macs
    assert count_macs(model, images[:1, :, :19]).total == model.cost((19, 34)).macs


def test_the_small_size_is_small() -> None:
    with torch.device("meta"):
        model = gossamer.create_model("resnet_18_small")
    assert sum(parameter.numel() for parameter in model.parameters()) < 4e6
    assert model.cost((64, 64)).macs < 0.2e9
    assert model.eval()(torch.zeros(2, 3, 28, 28, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_overfits_one_batch_and_reaches_every_parameter(block: str, norm: str) -> None:
    model = tiny(block=block, norm=norm, stem="small", depths=(1, 2, 1, 1))
    images, labels = torch.randn(6, 2, 37, 26), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss = torch.zeros(())
    for _ in range(60):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unreached = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.abs().max() > 0]
    assert unreached == []
    assert float(loss.detach()) < 0.05


def test_the_config_survives_json() -> None:
    described = tiny(block="bottleneck", stem="small").config
    assert config_from_json(config.to_json(described)) == described


def test_refuses_bad_values() -> None:
    with expect_error("depths", 0):
        tiny(depths=(2, 0, 1, 1))
    with expect_error("width", 0):
        tiny(width=0)
    with expect_error("in_channels", 3, 2):
        tiny()(torch.zeros(2, 3, 37, 26))
    with expect_error("attention"):
        gossamer.create_model("resnet_18", attention="kv")
