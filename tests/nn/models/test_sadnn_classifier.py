"""The SaDNN classifier and its baseline: published counts, the network by hand, and what the small ones learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gossamer
from expected_errors import expect_error
from gossamer import config
from gossamer.nn.layers.local_attention import LocalAttention2d
from gossamer.nn.models import Network, config_from_json
from gossamer.profiling.macs import count_macs

LAYERS = ("attention", "convolution")
PRESETS = {"attention": "sadnn_classifier", "convolution": "sadnn_classifier_convolution"}
TINY = {"widths": (8, 16), "depths": (2, 1), "in_channels": 2, "num_classes": 3, "image_size": (22, 13)}


def tiny(layer: str = "attention", **changes: object) -> Network:
    torch.manual_seed(0)
    return gossamer.create_model("sadnn_classifier", **{**TINY, "layer": layer, "hidden": (12,), **changes})  # type: ignore[arg-type]


def parameters(modules: list[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def layers(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_published_size() -> None:
    with torch.device("meta"):
        model = gossamer.create_model("sadnn_classifier")
        fifteen = gossamer.create_model("sadnn_classifier", num_classes=15)
    attention = [module for module in model.modules() if isinstance(module, LocalAttention2d)]
    assert parameters([model]) == 4_563_102
    assert parameters([fifteen]) == 4_563_167
    assert parameters(layers(model, LocalAttention2d)) == 86_928
    assert sum(module.embedding.numel() for module in attention) == 1_632
    assert parameters(layers(model, nn.BatchNorm2d)) == 1_088
    assert parameters(layers(model, nn.Linear)) == 4_475_086 + 86_928 - 1_632
    sides: list[int] = []
    for module in attention:
        module.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[2]))
    model.eval()(torch.zeros(1, 1, 512, 512, device="meta"))
    assert sides == [512, 512, 256, 256, 128, 128, 64, 64, 32, 32, 16]
    # The published convention adds the embedding to the keys; here it meets the queries, a product more.
    embeddings = sum(9 * module.out_channels * side**2 for module, side in zip(attention, sides, strict=True))
    assert model.cost().macs - embeddings == 1_227_670_400
    assert fifteen.cost().macs - embeddings == 1_227_670_464


def test_baseline_differs_only_in_its_layers() -> None:
    with torch.device("meta"):
        attention = gossamer.create_model("sadnn_classifier")
        convolution = gossamer.create_model("sadnn_classifier_convolution")
    replaced = layers(attention, LocalAttention2d)
    for module, baseline in zip(replaced, layers(convolution, nn.Conv2d), strict=True):
        assert isinstance(module, LocalAttention2d)
        assert isinstance(baseline, nn.Conv2d)
        assert (module.qkv.in_features, module.out_channels) == (baseline.in_channels, baseline.out_channels)
        assert (baseline.kernel_size, baseline.stride, baseline.padding) == ((3, 3), (1, 1), (1, 1))
        weights, biases = 9 * baseline.in_channels * baseline.out_channels, baseline.out_channels
        assert parameters([baseline]) == weights + biases
        assert 3 * (parameters([module]) - 3 * biases) == weights
    assert layers(convolution, LocalAttention2d) == []
    assert parameters([convolution]) == 4_563_102 + 2 * (86_928 - 1_632) - 1_632 + 544
    both = (attention, convolution)
    replacements = {LocalAttention2d, nn.Conv2d, nn.Linear}
    kinds = [
        [str(module) for module in model.modules() if not any(module.children()) and type(module) not in replacements]
        for model in both
    ]
    assert kinds[0] == kinds[1]
    shapes = [
        [part.shape for name, part in model.named_parameters() if name.startswith(("hidden", "classifier"))]
        for model in both
    ]
    assert len(shapes[0]) == 8
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("readout", ["flatten", "mean"])
def test_the_network_is_layer_normalization_relu_and_pooling(layer: str, readout: str) -> None:
    model = tiny(layer, readout=readout).double()
    images = torch.randn(4, 2, 22, 13, dtype=torch.float64)
    model(images)
    model.eval()
    weights = list(model.state_dict().values())

    def take() -> Tensor:
        return weights.pop(0)

    def unit(maps: Tensor, in_channels: int, out_channels: int) -> Tensor:
        if layer == "convolution":
            maps = F.conv2d(maps, take(), take(), padding=1)
        else:
            local = LocalAttention2d(in_channels, out_channels, 3).double()
            names = list(local.state_dict())
            local.load_state_dict({name: take() for name in names})
            maps = local(maps)
        gain, shift, mean, variance, _ = (take() for _ in range(5))
        columns = (part[:, None, None] for part in (gain, shift, mean, (variance + 1e-5).sqrt()))
        gain, shift, mean, deviation = columns
        return torch.relu((maps - mean) / deviation * gain + shift)

    def pool(maps: Tensor) -> Tensor:
        padded = F.pad(maps, (0, maps.shape[3] % 2, 0, maps.shape[2] % 2), value=float("-inf"))
        return padded.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax(dim=(3, 5))

    maps = pool(unit(unit(images, 2, 8), 8, 8))
    maps = pool(unit(maps, 8, 16))
    assert maps.shape[1:] == (16, 6, 4)
    features = maps.mean(dim=(2, 3)) if readout == "mean" else maps.reshape(4, -1)
    wanted = F.linear(torch.relu(F.linear(features, take(), take())), take(), take())
    assert weights == []
    torch.testing.assert_close(model(images), wanted)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("num_heads", [1, 4])
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("fold", [1, 2])
def test_counted_macs_equal_the_closed_form(layer: str, num_heads: int, norm: str, fold: int) -> None:
    model = tiny(layer, num_heads=num_heads, norm=norm, fold=fold, readout="mean", image_size=(22, 14))
    assert count_macs(model, torch.zeros(1, 2, 22, 14)).total == model.cost().macs
    assert count_macs(model, torch.zeros(1, 2, 18, 10)).total == model.cost((18, 10)).macs


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("readout", ["flatten", "mean"])
def test_logits_do_not_depend_on_the_batch(layer: str, readout: str) -> None:
    model = tiny(layer, readout=readout).double().eval()
    images = torch.randn(3, 2, 22, 13, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (3, 3)
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    torch.testing.assert_close(logits[1:2], model(images[1:2]))


def test_mean_takes_any_size_and_flattening_one() -> None:
    model = gossamer.create_model("sadnn_classifier_small").eval()
    for size in ((28, 28), (30, 62), (2, 6)):
        assert model(torch.zeros(2, 1, *size)).shape == (2, 14)
    with expect_error("image_size", "24x13", "resize to 22x13"):
        tiny()(torch.zeros(2, 2, 24, 13))
    with expect_error("image_size", "24x13"):
        tiny().cost((24, 13))
    with expect_error("image_size", "28x31", 2, "28x32"):
        model(torch.zeros(2, 1, 28, 31))


def test_folding_loses_no_pixel() -> None:
    model = tiny(fold=2, readout="mean", image_size=(22, 14)).double().eval()
    image = torch.randn(1, 2, 22, 14, dtype=torch.float64)
    moved = [(row, column) for row in (6, 7) for column in (4, 5)]
    images = image.repeat(len(moved), 1, 1, 1)
    for index, (row, column) in enumerate(moved):
        images[index, 0, row, column] += 3.0
    answers = torch.cat([model(image), model(images)])
    assert len(answers.round(decimals=9).unique(dim=0)) == 1 + len(moved)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_small_size_is_small(layer: str) -> None:
    with torch.device("meta"):
        model = gossamer.create_model(f"{PRESETS[layer]}_small")
    assert parameters([model]) < 2e6
    assert model.cost((64, 64)).macs < 0.1e9


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("readout", ["flatten", "mean"])
def test_overfits_one_batch_and_reaches_every_parameter(layer: str, readout: str) -> None:
    model = tiny(layer, readout=readout)
    images, labels = torch.randn(6, 2, 22, 13), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = torch.zeros(())
    for _ in range(60):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 0] == []  # type: ignore[union-attr]
    assert float(loss.detach()) < 0.05


def squares_and_bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy images (count, 1, 24, 20) that hold a square or a bar of the same area somewhere, and which."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = 0.2 * torch.randn(count, 1, 24, 20, generator=generator)
    for image, label in zip(images, labels, strict=True):
        height, width = (6, 6) if label else (3, 12)
        row, column = (int(torch.randint(0, size, (), generator=generator)) for size in (25 - height, 21 - width))
        image[:, row : row + height, column : column + width] += 1.0
    return images, labels


@pytest.mark.parametrize("layer", LAYERS)
def test_the_small_network_learns_shapes_wherever_they_are(layer: str) -> None:
    torch.manual_seed(0)
    name = f"{PRESETS[layer]}_small"
    model = gossamer.create_model(name, image_size=(24, 20), widths=(16, 32, 64), depths=(1, 1, 1), num_classes=2)
    images, labels = squares_and_bars(240, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(60):
        picked = slice(24 * step % 240, 24 * step % 240 + 24)
        loss = F.cross_entropy(model(images[picked]), labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen, truth = squares_and_bars(200, 2)
    with torch.no_grad():
        assert (model.eval()(unseen).argmax(dim=1) == truth).float().mean() > 0.9


@pytest.mark.parametrize("layer", LAYERS)
def test_the_config_survives_json(layer: str) -> None:
    described = gossamer.create_model(f"{PRESETS[layer]}_small", widths=(16, 24, 40, 8)).config
    assert config_from_json(config.to_json(described)) == described


def test_refuses_bad_values() -> None:
    with expect_error("widths", 8):
        tiny(widths=(8, 12), num_heads=4)
    assert parameters([tiny("convolution", widths=(8, 13), num_heads=4)]) > 0
    with expect_error("depths", 2, 3):
        tiny(widths=(8, 16, 16))
    with expect_error("depths", 0):
        tiny(depths=(2, 0))
    with expect_error("hidden", 0):
        tiny(hidden=(0,))
    with expect_error("fold", 0):
        tiny(fold=0)
    with expect_error("in_channels", 1, 2):
        tiny()(torch.zeros(2, 1, 22, 13))
    with expect_error("attention"):
        gossamer.create_model("sadnn_classifier", attention="kv")
