"""One body for every network that classifies: what the contract promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gossamer
from gossamer import config
from gossamer.checkpoint import load_model, save_model
from gossamer.errors import GossamerError
from gossamer.measure.macs import count_macs
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import MODELS, PRESETS, Network, config_from_json, list_models

CLASSIFIERS = sorted(name for name, kind in MODELS.items() if kind.task == "classify")
every_preset = pytest.mark.parametrize("name", list_models(task="classify"))
every_mechanism = pytest.mark.parametrize("attention", sorted(MECHANISMS))
SMALL = {"vit": {"dim": 16, "depth": 2, "num_heads": 2, "patch_size": 4, "image_size": (20, 12)}}


def small(model: str, attention: str, **changes: object) -> Network:
    torch.manual_seed(0)
    described = MODELS[model]
    preset = next(name for name, preset in PRESETS.items() if isinstance(preset, described))
    values = {**SMALL[model], "in_channels": 2, "num_classes": 3, "attention": attention, **changes}
    return gossamer.create_model(preset, **values)  # type: ignore[arg-type]


@every_preset
@every_mechanism
def test_closed_form_equals_counted_macs(name: str, attention: str) -> None:
    model = gossamer.create_model(name, attention=attention, image_size=(32, 48), in_channels=1, num_classes=5)
    assert count_macs(model, torch.zeros(1, 1, 32, 48)).total == model.cost().macs


@pytest.mark.parametrize("model", CLASSIFIERS)
@every_mechanism
def test_forward_gives_logits_for_every_image_alone(model: str, attention: str) -> None:
    network = small(model, attention).eval()
    images = torch.randn(3, 2, 20, 12)
    logits = network(images)
    assert logits.shape == (3, 3)
    torch.testing.assert_close(logits[1:2], network(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", CLASSIFIERS)
@every_mechanism
def test_another_image_size(model: str, attention: str) -> None:
    network = small(model, attention).eval()
    assert network(torch.randn(2, 2, 28, 16)).shape == (2, 3)
    assert network.cost((28, 16)).macs == count_macs(network, torch.randn(1, 2, 28, 16)).total


@pytest.mark.parametrize("model", CLASSIFIERS)
@every_mechanism
def test_save_and_load_are_the_identity(model: str, attention: str, tmp_path: Path) -> None:
    network = small(model, attention).eval()
    save_model(network, tmp_path)
    again = load_model(tmp_path)
    images = torch.randn(2, 2, 20, 12)
    assert torch.equal(network(images), again(images))
    assert again.config == network.config
    assert config_from_json(config.to_json(network.config)) == network.config


@pytest.mark.parametrize("model", CLASSIFIERS)
@every_mechanism
def test_one_batch_can_be_overfitted(model: str, attention: str) -> None:
    network = small(model, attention)
    images, labels = torch.randn(6, 2, 20, 12), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(120):
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_every_parameter_is_reached(model: str) -> None:
    network = small(model, "sequence_norm")
    network(torch.randn(2, 2, 20, 12)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_evaluation_is_deterministic_under_dropout(model: str) -> None:
    network = small(model, "softmax", dropout=0.3, drop_path=0.3).eval()
    images = torch.randn(2, 2, 20, 12)
    assert torch.equal(network(images), network(images))
    network.train()
    assert not torch.equal(network(images), network(images))


def test_presets_are_listed_and_misspelt_names_answered() -> None:
    assert gossamer.list_models("vit_tiny*") == ["vit_tiny", "vit_tiny_conv"]
    with pytest.raises(GossamerError, match="did you mean vit_tiny"):
        gossamer.create_model("vit_tny")
    with pytest.raises(GossamerError, match="did you mean depth"):
        gossamer.create_model("vit_tiny", dept=3)
    with pytest.raises(GossamerError, match="did you mean softmax"):
        gossamer.create_model("vit_tiny", attention="sotfmax")
