"""The contract of classification networks, one test body for all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer
from expected_errors import expect_error
from gossamer import config
from gossamer.checkpoint import load_model, save_model
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import MODELS, PRESETS, SMALL, Network, config_from_json, list_models
from gossamer.profiling.macs import count_macs

CLASSIFIERS = sorted(name for name, network in MODELS.items() if network.task == "classify")
SIZE = (24, 16)
ATTENDING = [name for name in CLASSIFIERS if MODELS[name].has_attention()]
PAIRS = [(name, mechanism) for name in ATTENDING for mechanism in sorted(MECHANISMS)]
PAIRS += [(name, None) for name in CLASSIFIERS if name not in ATTENDING]
every_pair = pytest.mark.parametrize(("model", "attention"), PAIRS)


def test_every_network_has_a_small_form() -> None:
    assert {small.name for small in SMALL.values()} == set(MODELS)
    assert all(SMALL[name].name == name for name in MODELS)


def small(model: str, attention: str | None, **changes: Any) -> Network:
    torch.manual_seed(0)
    values = {"image_size": SIZE, "in_channels": 2, "num_classes": 3, **changes}
    if attention is not None:
        values["attention"] = MECHANISMS[attention]()
    try:
        return dataclasses.replace(SMALL[model], **values).with_supported_readout().build()
    except GossamerError as error:
        if error.code is not ErrorCode.UNSUPPORTED:
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "name", [name for name in list_models(task="classify") if PRESETS[name].input_requirements.fixed_size is None]
)
def test_closed_form_equals_counted_macs(name: str) -> None:
    # All sizes of a network have the same closed form; mechanisms are compared in the smaller ones.
    own = not PRESETS[name].has_attention() or (name.startswith("soft") and name != "soft_pyramid_small")
    size = (64, 96) if "official" in name else (32, 48)
    for attention in [None] if own or "base" in name else sorted(MECHANISMS):
        model = gossamer.create_model(name, attention=attention, image_size=size, in_channels=1, num_classes=5)
        assert count_macs(model, torch.zeros(1, 1, *size)).total == model.cost().macs, attention


@every_pair
def test_logits_do_not_depend_on_other_images(model: str, attention: str | None) -> None:
    network = small(model, attention).eval()
    images = torch.randn(3, 2, *SIZE)
    logits = network(images)
    assert logits.shape == (3, 3)
    torch.testing.assert_close(logits[1:2], network(images[1:2]), rtol=1e-4, atol=1e-5)


@every_pair
def test_takes_another_image_size(model: str, attention: str | None) -> None:
    network = small(model, attention).eval()
    assert network(torch.randn(2, 2, 32, 40)).shape == (2, 3)
    assert network.cost((32, 40)).macs == count_macs(network, torch.randn(1, 2, 32, 40)).total


@every_pair
def test_saving_and_loading_changes_nothing(model: str, attention: str | None, tmp_path: Path) -> None:
    network = small(model, attention).eval()
    save_model(network, tmp_path)
    again = load_model(tmp_path)
    images = torch.randn(2, 2, *SIZE)
    assert torch.equal(network(images), again(images))
    assert again.config == network.config
    assert config_from_json(config.to_json(network.config)) == network.config


@every_pair
def test_one_batch_can_be_overfitted(model: str, attention: str | None) -> None:
    network = small(model, attention)
    network.begin_epoch(0.99)
    images, labels = torch.randn(6, 2, *SIZE), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(200):
        output = network.training_output(images)
        loss = torch.nn.functional.cross_entropy(output.logits, labels)
        optimizer.zero_grad()
        output.add_penalty(loss).backward()
        optimizer.step()
        if float(loss.detach()) < 0.05:
            return
    pytest.fail(f"the loss is still {float(loss.detach()):.3f}")


@every_pair
def test_every_parameter_has_a_gradient(model: str, attention: str | None) -> None:
    network = small(model, attention)
    network.begin_epoch(0.99)
    output = network.training_output(torch.randn(2, 2, *SIZE))
    output.add_penalty(output.logits.square().sum()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("model", [name for name in CLASSIFIERS if hasattr(SMALL[name], "dropout")])
def test_evaluation_is_deterministic_with_dropout(model: str) -> None:
    network = small(model, None, dropout=0.3).eval()
    images = torch.randn(2, 2, *SIZE)
    assert torch.equal(network(images), network(images))
    network.train()
    assert not torch.equal(network(images), network(images))


def test_lists_presets_and_suggests_the_nearest_name() -> None:
    assert gossamer.list_models("vit_tiny*") == ["vit_tiny", "vit_tiny_conv"]
    with expect_error("model", "vit_tiny"):
        gossamer.create_model("vit_tny")
    with expect_error("model vit_tiny", "depth"):
        gossamer.create_model("vit_tiny", dept=3)
    with expect_error("attention", "softmax"):
        gossamer.create_model("vit_tiny", attention="sotfmax")
