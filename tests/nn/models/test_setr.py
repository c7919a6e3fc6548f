"""SETR has the published counts, and its three decoders do what their figures say."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import gossamer
from expected_errors import expect_error
from gossamer.nn.attention import MECHANISMS, KeyValuePosConfig
from gossamer.nn.models import model_config
from gossamer.nn.models.setr import AUXILIARY_WEIGHT, PRESETS, SETR, SETRConfig
from gossamer.profiling.macs import count_macs

DECODERS = ("naive", "pup", "mla")


def on_meta(name: str, **changes: object) -> torch.nn.Module:
    with torch.device("meta"):
        return gossamer.create_model(name, **changes)  # type: ignore[arg-type]


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def tiny(decoder: str, **changes: object) -> SETR:
    torch.manual_seed(0)
    values = {
        "image_size": (24, 40), "in_channels": 2, "num_classes": 3, "patch_size": 8, "dim": 16, "depth": 5,
        "num_heads": 2, "decoder_dim": 8, **changes,
    }  # fmt: skip
    network = gossamer.create_model(f"setr_{decoder}_small", **values)  # type: ignore[arg-type]
    assert isinstance(network, SETR)
    return network


@pytest.mark.parametrize(
    ("name", "side", "of_qkv", "of_kv", "gmacs_qkv", "gmacs_kv"),
    [
        ("setr_naive_base", 256, 86_042_883, 78_955_779, 23.247, 21.428),
        ("setr_pup_base", 256, 89_387_523, 82_300_419, 36.346, 34.527),
        ("setr_mla_base", 256, 90_784_515, 83_697_411, 24.417, 22.605),
        ("setr_naive", 256, 303_626_755, 278_436_355, 81.126, 74.659),
        ("setr_pup", 256, 307_495_683, 282_305_283, 94.359, 87.892),
        ("setr_mla", 256, 308_566_531, 283_376_131, 82.114, 75.672),
        ("setr_naive", 512, 304_413_187, 279_222_787, 362.254, 336.460),
        ("setr_pup", 512, 308_282_115, 283_091_715, 415.186, 389.391),
        ("setr_mla", 512, 309_352_963, 284_162_563, 367.111, 341.341),
    ],
)
def test_published_size(name: str, side: int, of_qkv: int, of_kv: int, gmacs_qkv: float, gmacs_kv: float) -> None:
    preset = PRESETS[name]
    for attention, parameters, gmacs in (("softmax", of_qkv, gmacs_qkv), ("kv", of_kv, gmacs_kv)):
        network = on_meta(name, attention=attention, image_size=(side, side), num_classes=3)
        assert isinstance(network, SETR)
        assert count(network) == parameters
        # The closed form equals the counted operators in ``test_every_mechanism_at_any_size``.
        assert network.cost().macs / 1e9 == pytest.approx(gmacs, abs=5e-4)
    assert of_qkv - of_kv == preset.depth * (preset.dim**2 + preset.dim)
    with_map = on_meta(name, attention="kv_pos", image_size=(side, side), num_classes=3)
    assert count(with_map) - of_kv == preset.depth * (KeyValuePosConfig().channels + 1)


def test_blocks_that_are_read() -> None:
    assert PRESETS["setr_mla"].decoded_blocks == (6, 12, 18, 24)
    assert PRESETS["setr_mla_base"].decoded_blocks == (3, 6, 9, 12)
    assert PRESETS["setr_pup"].decoded_blocks == (24,)
    assert dataclasses.replace(PRESETS["setr_naive"], auxiliary_heads=True).auxiliary_blocks == (10, 15, 20)
    assert dataclasses.replace(PRESETS["setr_pup"], auxiliary_heads=True).auxiliary_blocks == (10, 15, 20, 24)
    assert dataclasses.replace(PRESETS["setr_pup_small"], auxiliary_heads=True).auxiliary_blocks == (3, 4, 5, 6)


@pytest.mark.parametrize(
    ("decoder", "attention"),
    [
        *(("naive", name) for name in sorted(MECHANISMS)),
        ("pup", "kv_pos"),
        ("pup", "local"),
        ("mla", "softmax"),
        ("mla", "kv"),
    ],
)
def test_every_mechanism_at_any_size(decoder: str, attention: str) -> None:
    network = tiny(decoder, attention=attention, depth=4 if decoder == "mla" else 2).eval()
    for rows, columns in ((24, 40), (40, 32)):
        images = torch.randn(2, 2, rows, columns)
        logits = network(images)
        assert logits.shape == (2, 3, rows, columns)
        torch.testing.assert_close(network(images[1:]), logits[1:], rtol=1e-4, atol=1e-5)
        assert count_macs(network, images[:1]).total == network.cost((rows, columns)).macs


@pytest.mark.parametrize("decoder", DECODERS)
def test_presets_take_every_mechanism(decoder: str) -> None:
    for attention in MECHANISMS:
        for size in ("", "_base", "_small"):
            made = model_config(f"setr_{decoder}{size}", attention=attention, image_size=(32, 48))
            assert isinstance(made, SETRConfig)
            wanted = PRESETS[f"setr_{decoder}{size}"].prefix
            # A neighbourhood has no place for a class token; it never sees the token that MLA drops.
            assert made.prefix == ("none" if attention == "local" and wanted == "attended" else wanted)


def test_the_class_token_is_attended_dropped_or_absent() -> None:
    images = torch.randn(2, 2, 24, 40)
    for prefix, positions, changes in (("attended", 16, True), ("dropped", 16, False)):
        network = tiny("naive", prefix=prefix).eval()
        assert network.encoder.position.table.shape[1] == positions
        before = network(images)
        assert network.encoder.class_token is not None
        torch.nn.init.constant_(network.encoder.class_token, 3.0)
        assert torch.equal(before, network(images)) is not changes
    # Dropping a token by the count of tokens, as the authors do, would take a patch from a grid of 196.
    network = tiny("naive", prefix="none", image_size=(112, 112))
    assert network.encoder.class_token is None
    assert network.encoder(torch.randn(2, 196, 16), (14, 14), (5,))[5].shape == (2, 196, 16)


def test_naive_is_two_pointwise_maps_and_one_enlargement() -> None:
    network = tiny("naive", prefix="none").double().eval()
    images = torch.randn(2, 2, 24, 40, dtype=torch.float64)
    tokens, grid = network.patch_embed(images)
    tokens = network.encoder(tokens, grid, (5,))[5]
    decoder = network.decoder
    weights = dict(decoder.named_parameters())
    hidden = F.layer_norm(tokens, (16,), weights["map.norm.weight"], weights["map.norm.bias"], eps=1e-6)
    hidden = hidden @ weights["project.convolution.weight"][:, :, 0, 0].T + weights["project.convolution.bias"]
    hidden = torch.relu(decoder.project.norm(hidden.transpose(1, 2).unflatten(2, grid)))  # type: ignore[operator, union-attr]
    logits = torch.einsum("bdrc,kd->bkrc", hidden, weights["classifier.weight"][:, :, 0, 0])
    logits = logits + weights["classifier.bias"][:, None, None]
    wanted = F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(images), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("patch_size", "units"), [(16, 4), (8, 3), (4, 2), (2, 1)])
def test_pup_doubles_once_behind_each_convolution(patch_size: int, units: int) -> None:
    network = tiny("pup", patch_size=patch_size, image_size=(32, 48)).eval()
    sizes: list[tuple[int, int]] = []
    for unit in network.decoder.units:  # type: ignore[union-attr]
        unit.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    seen: list[torch.Tensor] = []
    network.decoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(torch.randn(2, 2, 32, 48))
    assert sizes == [(32 // patch_size * 2**step, 48 // patch_size * 2**step) for step in range(units)]
    assert seen[0].shape == (2, 3, 16, 24)


def test_mla_sums_upwards_and_aligns_corners_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny("mla", depth=4, norm="batch", patch_size=16, image_size=(32, 48)).double().eval()
    tokens = [torch.randn(2, 6, 16, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    decoder = network.decoder
    for index, level in enumerate(decoder.levels(tokens, (2, 3))):  # type: ignore[operator, union-attr]
        reached = torch.autograd.grad(level.sum(), tokens, retain_graph=True, allow_unused=True)
        assert [part is not None and bool(part.abs().sum() > 0) for part in reached] == [at >= index for at in range(4)]
    calls: list[tuple[tuple[int, ...], bool]] = []
    interpolate = F.interpolate

    def recorded(features: torch.Tensor, **options: object) -> torch.Tensor:
        calls.append((tuple(options["size"]), bool(options["align_corners"])))  # type: ignore[arg-type]
        return interpolate(features, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "interpolate", recorded)
    network(torch.randn(2, 2, 32, 48, dtype=torch.float64))
    assert calls == [((8, 12), True)] * 4 + [((32, 48), False)]


@pytest.mark.parametrize(("decoder", "heads", "side"), [("naive", 3, 1), ("pup", 4, 4), ("mla", 4, 1)])
def test_auxiliary_heads_train_and_do_not_answer(decoder: str, heads: int, side: int) -> None:
    network = tiny(decoder, auxiliary_heads=True, depth=8)
    plain = tiny(decoder, depth=8)
    assert plain.training_output(torch.randn(2, 2, 24, 40)).heads == ()
    output = network.training_output(torch.randn(2, 2, 24, 40))
    assert [tuple(head.logits.shape) for head in output.heads] == [(2, 3, 3 * side, 5 * side)] * heads
    assert {(head.weight, head.target, head.loss) for head in output.heads} == {
        (AUXILIARY_WEIGHT, "classes", "cross_entropy")
    }
    loss = output.logits.square().mean() + sum(head.logits.square().mean() for head in output.heads)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert network.cost() == plain.cost()
    with torch.no_grad():
        for parameter in network.auxiliary.parameters():
            parameter.fill_(7.0)
    plain.load_state_dict(network.state_dict(), strict=False)
    images = torch.randn(2, 2, 24, 40)
    assert torch.equal(network.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_parameter_is_reached_without_auxiliary_heads(decoder: str) -> None:
    for prefix in ("attended", "dropped", "none"):
        network = tiny(decoder, prefix=prefix, norm="batch", stem="patch")
        network(torch.randn(2, 2, 24, 40)).square().sum().backward()
        assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_penalty_is_the_mean_over_blocks() -> None:
    attention = {"name": "adaptive", "prior_weight": 0.5}
    network = tiny("naive", attention=attention).eval()
    images = torch.randn(2, 2, 24, 40)
    output = network.training_output(images)
    losses: list[torch.Tensor] = []
    tokens, grid = network.patch_embed(images)
    network.encoder(tokens, grid, (5,), losses)
    assert len(losses) == 5
    assert output.penalty is not None
    torch.testing.assert_close(output.penalty, sum(losses) / 5)
    torch.testing.assert_close(output.logits, network(images))
    assert tiny("naive").training_output(images).penalty is None


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_batch_can_be_overfitted(decoder: str) -> None:
    network = tiny(decoder, patch_size=4, image_size=(12, 20), dim=32, depth=4, decoder_dim=16, attention="kv")
    images = torch.randn(3, 2, 12, 20)
    # Truth on the tokens' grid: what the decoders can draw.
    truth = torch.randint(3, (3, 3, 5)).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        loss = F.cross_entropy(network(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((network.eval()(images).argmax(dim=1) == truth).double().mean()) > 0.95


@pytest.mark.parametrize(
    ("changes", "where", "shown"),
    [
        ({"image_size": (33, 32)}, "image_size", "40x32"),
        ({"patch_size": 0}, "patch_size", "0"),
        ({"decoder_dim": 1}, "decoder_dim", "2"),
        ({"num_heads": 5}, "num_heads", "192"),
        ({"depth": 3}, "depth", "4"),
        ({"dropout": 1.0}, "dropout", "1.0"),
        ({"decoder": "fpn"}, "model setr_mla_small", "decoder"),
    ],
)
def test_refuses_bad_values(changes: dict[str, object], where: str, shown: str) -> None:
    with expect_error(where, shown):
        gossamer.create_model("setr_mla_small", **changes)  # type: ignore[arg-type]


def test_refuses_bad_images() -> None:
    network = tiny("naive")
    assert network.config.input_requirements.multiple == 8
    with expect_error("image_size", "32x40"):
        network(torch.zeros(2, 2, 25, 40))
    with expect_error("in_channels", 1, 2):
        network(torch.zeros(2, 1, 24, 40))
