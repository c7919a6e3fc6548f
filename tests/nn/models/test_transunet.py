"""TransUNet has the published counts and the published stem; two of them do not know each other."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import gossamer
from expected_errors import expect_error
from gossamer.nn.attention import MECHANISMS, KeyValueConfig
from gossamer.nn.layers.convolution import StandardizedConv2d
from gossamer.nn.layers.convolutional_stem import ResNetStem
from gossamer.nn.models.transunet import PRESETS, TransUNet
from gossamer.profiling.macs import count_macs

SIZES = {
    "resnet": {
        "stem": "resnet", "stem_width": 32, "stem_units": (1, 2), "decoder_widths": (12, 10, 8, 6), "norm": "batch",
    },
    "residual": {"stem": "residual", "stem_width": 8, "stem_units": (1, 2, 1), "decoder_widths": (16, 12, 8)},
}  # fmt: skip


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def tiny(stem: str, **changes: object) -> TransUNet:
    torch.manual_seed(0)
    values = {
        "image_size": (24, 40), "in_channels": 2, "num_classes": 3, "dim": 16, "depth": 3, "num_heads": 2,
        **SIZES[stem], **changes,
    }  # fmt: skip
    network = gossamer.create_model("transunet_small", **values)  # type: ignore[arg-type]
    assert isinstance(network, TransUNet)
    return network


@pytest.mark.parametrize(
    ("classes", "side", "of_qkv", "of_kv", "macs_qkv", "macs_kv", "digits"),
    [
        (4, 224, 105_276_356, 98_189_252, 29_189_603_328, 27_802_337_280, 1),
        (4, 256, 105_322_436, 98_235_332, 38_412_730_368, 36_600_791_040, 1),
        (3, 224, 105_276_211, 98_189_107, 29_182_000_000, 27_795_000_000, 10**6),
        (3, 256, 105_322_291, 98_235_187, 38_403_000_000, 36_591_000_000, 10**6),
    ],
)
def test_published_size(
    classes: int, side: int, of_qkv: int, of_kv: int, macs_qkv: int, macs_kv: int, digits: int
) -> None:
    for attention, parameters, macs in (("softmax", of_qkv, macs_qkv), ("kv", of_kv, macs_kv)):
        with torch.device("meta"):
            network = gossamer.create_model(
                "transunet", attention=attention, image_size=(side, side), num_classes=classes
            )
        assert count(network) == parameters
        total = network.cost().macs
        assert abs(total - macs) < digits
        if digits == 1 and side == 224:
            assert count_macs(network, torch.zeros(1, 3, side, side, device="meta")).total == macs
    with torch.device("meta"):
        with_map = gossamer.create_model("transunet", attention="kv_pos", image_size=(side, side), num_classes=classes)
    assert count(with_map) - of_kv == 612
    assert of_qkv - of_kv == 12 * (768**2 + 768)


def test_a_single_channel_is_tiled() -> None:
    with torch.device("meta"):
        network = gossamer.create_model("transunet", in_channels=1, image_size=(224, 224), num_classes=4)
    assert count(network) == 105_276_356
    network = tiny("resnet", in_channels=1, tile_single_channel=True).eval()
    coloured = tiny("resnet", in_channels=3).eval()
    coloured.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, 24, 40)
    torch.testing.assert_close(network(images), coloured(images.expand(-1, 3, -1, -1)))
    stem = tiny("residual", in_channels=1).stem
    assert next(stem.parameters()).shape[1] == 1


@pytest.mark.parametrize(
    ("stem", "attention"),
    [*(("residual", name) for name in sorted(MECHANISMS)), ("resnet", "kv"), ("resnet", "softmax")],
)
def test_every_mechanism_at_any_size(stem: str, attention: str) -> None:
    network = tiny(stem, attention=attention, depth=2).eval()
    for rows, columns in ((24, 40), (40, 32)):
        images = torch.randn(2, 2, rows, columns)
        logits = network(images)
        assert logits.shape == (2, 3, rows, columns)
        torch.testing.assert_close(network(images[1:]), logits[1:], rtol=1e-4, atol=1e-5)
        assert count_macs(network, images[:1]).total == network.cost((rows, columns)).macs


def test_filters_are_standardized() -> None:
    torch.manual_seed(0)
    layer = StandardizedConv2d(3, 5, (3, 5), padding=(1, 2), bias=False).double()
    images = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    weight = layer.weight.detach().flatten(1)
    weight = (weight - weight.mean(1, keepdim=True)) / (weight.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    wanted = F.conv2d(images, weight.view_as(layer.weight), padding=(1, 2))
    torch.testing.assert_close(layer(images), wanted, rtol=1e-10, atol=1e-10)
    before = layer(images)
    with torch.no_grad():
        layer.weight.mul_(1e3).add_(2.0)
    # Scale and mean of the weights do not matter, but for the constant under the root.
    torch.testing.assert_close(layer(images), before, rtol=2e-3, atol=2e-3)


def test_map_behind_the_unpadded_pool_is_zero_padded() -> None:
    torch.manual_seed(0)
    stem = ResNetStem(2, 32, (1, 1, 2)).eval()
    inside: list[tuple[int, ...]] = []
    for stage in stem.stages:
        stage.register_forward_hook(lambda module, inputs, output: inside.append(tuple(output.shape[2:])))
    features, kept = stem(torch.randn(2, 2, 32, 48))
    assert inside == [(7, 11), (4, 6), (2, 3)]
    assert features.shape == (2, 512, 2, 3)
    assert [tuple(part.shape[1:]) for part in kept] == [(256, 4, 6), (128, 8, 12), (32, 16, 24)]
    assert stem.skip_channels == (256, 128, 32)
    assert kept[1][:, :, 7].abs().sum() == 0
    assert kept[1][:, :, :, 11].abs().sum() == 0
    assert kept[1][:, :, :7, :11].abs().sum(dim=1).min() > 0


def test_decoder_aligns_corners_and_starts_at_the_coarsest_map(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny("resnet").eval()
    calls: list[tuple[tuple[int, ...], bool]] = []
    interpolate = F.interpolate

    def recorded(features: torch.Tensor, **options: object) -> torch.Tensor:
        calls.append((tuple(options["size"]), bool(options["align_corners"])))  # type: ignore[arg-type]
        return interpolate(features, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "interpolate", recorded)
    network(torch.randn(2, 2, 24, 40))
    assert calls == [((6, 10), True), ((12, 20), True), ((24, 40), True)]
    widths = [step.convolutions[0].convolution.in_channels for step in network.decoder.steps]  # type: ignore[index, union-attr]
    assert widths == [12 + 128, 10 + 32, 8]


@pytest.mark.parametrize("stem", sorted(SIZES))
def test_every_parameter_is_reached(stem: str) -> None:
    network = tiny(stem)
    output = network.training_output(torch.randn(2, 2, 24, 40))
    assert output.heads == ()
    assert output.penalty is None
    output.logits.square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_penalty_is_the_mean_over_blocks() -> None:
    output = tiny("residual", attention={"name": "adaptive", "prior_weight": 0.5}).training_output(
        torch.randn(2, 2, 24, 40)
    )
    assert output.penalty is not None
    assert output.penalty.shape == ()
    assert output.penalty.detach() > 0


def test_dropout_follows_positions_and_feed_forward_only() -> None:
    network = tiny("residual", dropout=0.4)
    rates = {name: part.p for name, part in network.named_modules() if isinstance(part, torch.nn.Dropout) and part.p}
    blocks = [f"encoder.blocks.{index}.feed_forward." for index in range(3)]
    assert set(rates) == {
        "encoder.dropout",
        *(f"{block}{end}" for block in blocks for end in ("activation.1", "dropout")),
    }
    assert set(rates.values()) == {0.4}


def test_two_networks_in_one_process_are_independent() -> None:
    images = torch.randn(2, 2, 24, 40)
    first = tiny("resnet").eval()
    before, config = first(images), dataclasses.asdict(first.config)
    second = tiny("residual", attention="kv", decoder_widths=(8, 6, 4))
    assert isinstance(second.config.attention, KeyValueConfig)
    assert torch.equal(first(images), before)
    assert dataclasses.asdict(first.config) == config
    assert PRESETS["transunet"].decoder_widths == (512, 256, 128, 64, 16)


def test_one_batch_can_be_overfitted() -> None:
    network = tiny("residual", attention="kv", image_size=(8, 12))
    images, truth = torch.randn(2, 2, 8, 12), torch.randint(3, (2, 8, 12))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(80):
        loss = F.cross_entropy(network(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((network.eval()(images).argmax(dim=1) == truth).double().mean()) > 0.9


@pytest.mark.parametrize(
    ("changes", "where", "shown"),
    [
        ({"image_size": (33, 32)}, "image_size", "40x32"),
        ({"stem_units": ()}, "stem_units", "()"),
        ({"stem_units": (1, 0, 1, 1)}, "stem_units", "(1, 0, 1, 1)"),
        ({"stem": "resnet", "stem_width": 48}, "stem_width", "48"),
        ({"decoder_widths": (16, 8)}, "decoder_widths", "4 positive"),
        ({"num_heads": 3}, "num_heads", "128"),
        ({"depth": 0}, "depth", "0"),
    ],
)
def test_refuses_bad_values(changes: dict[str, object], where: str, shown: str) -> None:
    with expect_error(where, shown):
        gossamer.create_model("transunet_small", **changes)  # type: ignore[arg-type]


def test_refuses_bad_images() -> None:
    assert PRESETS["transunet"].input_requirements.multiple == 16
    network = tiny("residual")
    assert network.config.input_requirements.multiple == 4
    with expect_error("image_size", "28x40"):
        network(torch.zeros(2, 2, 25, 40))
    with expect_error("in_channels", 1, 2):
        network(torch.zeros(2, 1, 24, 40))
