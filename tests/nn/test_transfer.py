"""What networks take over from each other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import gossamer
from expected_errors import expect_error
from gossamer.errors import ErrorCode
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import Network
from gossamer.nn.transfer import Query, convert_attention, transfer_weights

SIZE = (20, 12)
SMALL: dict[str, Any] = {
    "image_size": SIZE, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 2, "in_channels": 3, "num_classes": 4
}  # fmt: skip
IMAGES = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def vit(attention: str, **changes: Any) -> Network:
    torch.manual_seed(3)
    network = gossamer.create_model("vit_tiny", attention=attention, **{**SMALL, **changes}).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def logits(network: Network, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return network.double().eval()(images)


@pytest.mark.parametrize("before", sorted(MECHANISMS))
@pytest.mark.parametrize("after", sorted(MECHANISMS))
def test_converts_between_any_two_mechanisms(before: str, after: str) -> None:
    source = vit(before)
    given = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    target = convert_attention(source, after)
    assert torch.isfinite(logits(target)).all()
    assert all(torch.equal(tensor, given[name]) for name, tensor in source.state_dict().items()), "source is left alone"
    blank = vit(after, pooling=target.config.pooling)  # type: ignore[attr-defined]
    done = transfer_weights(source, blank)
    assert {*done.kept, *done.adapted, *done.fresh} == set(blank.state_dict())
    assert len(done.kept) + len(done.adapted) + len(done.fresh) == len(blank.state_dict())
    projections = (".qkv", ".key_value", ".query", ".key.", ".value", ".shared", ".output")
    lost = set(given) - {*done.kept, *done.adapted, *done.ignored}
    assert all("attention" in name and any(part in name for part in projections) for name in lost)
    assert any("attention.output" in name for name in (*done.kept, *done.adapted))
    if before == after:
        assert not done.adapted
        assert not done.fresh
        assert torch.equal(logits(target), logits(source))
    else:
        assert not any(name.endswith("output.weight") for name in done.fresh)
        assert not any("norm" in name and "attention." not in name for name in done.fresh)


def test_queries_copied_from_keys_give_the_same_logits() -> None:
    source = vit("kv")
    assert torch.allclose(logits(convert_attention(source, "softmax")), logits(source), rtol=1e-12)
    again = convert_attention(convert_attention(source, "softmax"), "kv", "mean")
    assert torch.allclose(logits(again), logits(source), rtol=1e-12)
    with_map = convert_attention(source, "kv_pos")
    assert torch.allclose(logits(with_map), logits(source), atol=0.3), "the position map starts near nothing"


@pytest.mark.parametrize(("query", "share"), [("key", 0.0), ("mean", 0.5)])
def test_projection_in_place_of_queries(query: Query, share: float) -> None:
    source = vit("softmax")
    weight, bias = (source.get_submodule("blocks.1.attention.qkv").state_dict()[key] for key in ("weight", "bias"))
    for name, layer in (("kv", "key_value"), ("soft", "shared")):
        made = convert_attention(source, name, query).get_submodule(f"blocks.1.attention.{layer}")
        wanted = share * weight[:16] + (1 - share) * weight[16:32]
        assert torch.allclose(made.weight[:16].double(), wanted, atol=1e-7)  # type: ignore[index]
        assert torch.allclose(made.bias[:16].double(), share * bias[:16] + (1 - share) * bias[16:32], atol=1e-7)  # type: ignore[index]


def test_another_image_size_gives_the_same_logits() -> None:
    source = vit("softmax")
    target = dataclasses.replace(source.config, image_size=(28, 20)).build().double()
    done = transfer_weights(source, target)
    larger = torch.randn(2, 3, 28, 20, dtype=torch.float64)
    assert torch.allclose(logits(target, larger), logits(source, larger), rtol=1e-12)
    assert done.adapted == {"position.table": "resampled from 5x3 to 7x5"}


def test_grey_images_give_the_logits_of_grey_colour_images() -> None:
    source = vit("softmax")
    target = dataclasses.replace(source.config, in_channels=1).build().double()
    done = transfer_weights(source, target)
    grey = IMAGES[:, :1]
    assert torch.allclose(logits(target, grey), logits(source, grey.expand(-1, 3, -1, -1)), rtol=1e-9)
    assert list(done.adapted.values()) == ["3 to 1 input channels"]
    colour = dataclasses.replace(source.config, in_channels=3).build().double()
    transfer_weights(target, colour)
    assert torch.allclose(logits(colour, grey.expand(-1, 3, -1, -1)), logits(target, grey), rtol=1e-9)


def test_other_classes_get_a_fresh_classifier() -> None:
    done = transfer_weights(vit("softmax"), vit("softmax", num_classes=7))
    assert done.fresh == ("classifier.weight", "classifier.bias")
    assert set(done.ignored) == {"classifier.weight", "classifier.bias"}


def test_refuses_networks_of_other_kinds() -> None:
    with expect_error("init", 24, code=ErrorCode.VALUE):
        transfer_weights(vit("softmax"), vit("softmax", dim=24))
    with expect_error("init", "vit", "unet"):
        transfer_weights(vit("softmax"), gossamer.create_model("unet_16", image_size=(32, 32)))
    with expect_error("attention", "unet"):
        convert_attention(gossamer.create_model("unet_16", image_size=(32, 32)), "kv")
