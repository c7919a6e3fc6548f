"""The contract of segmentation networks, one test body for all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from expected_errors import expect_error
from gossamer import config
from gossamer.checkpoint import load_model, save_model
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import MODELS, SMALL, Segmenter, config_from_json
from gossamer.profiling.macs import count_macs

SIZE, OTHER = (64, 96), (96, 64)
NAMES = [name for name, small in SMALL.items() if small.task == "segment"]
WITH_ATTENTION = [name for name in NAMES if SMALL[name].has_attention()]
every_network = pytest.mark.parametrize("name", NAMES)
every_pair = pytest.mark.parametrize(
    ("name", "attention"), [(n, a) for n in WITH_ATTENTION for a in sorted(MECHANISMS)]
)


def small(name: str, attention: str | None = None) -> Segmenter:
    torch.manual_seed(0)
    values: dict[str, Any] = {"image_size": SIZE, "in_channels": 2, "num_classes": 3}
    if attention is not None:
        values["attention"] = MECHANISMS[attention]()
    network = dataclasses.replace(SMALL[name], **values).with_supported_readout().build()
    assert isinstance(network, Segmenter)
    return network


def test_every_network_is_tested() -> None:
    assert {SMALL[name].name for name in NAMES} == {name for name, net in MODELS.items() if net.task == "segment"}


@every_network
def test_logits_are_maps_that_do_not_depend_on_other_images(name: str) -> None:
    network = small(name).eval()
    images = torch.randn(2, 2, *SIZE)
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (2, 3, *SIZE)
        torch.testing.assert_close(logits[1:], network(images[1:]), rtol=1e-3, atol=1e-4)


@every_pair
def test_closed_form_equals_counted_macs_of_every_mechanism(name: str, attention: str) -> None:
    network = small(name, attention=attention).eval()
    for size in (SIZE, OTHER):
        images = torch.zeros(1, 2, *size)
        assert count_macs(network, images).total == network.cost(size).macs
        with torch.no_grad():
            assert network(images).shape == (1, 3, *size)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_ATTENTION])
def test_closed_form_equals_counted_macs(name: str) -> None:
    network = small(name)
    assert count_macs(network, torch.zeros(1, 2, *OTHER)).total == network.cost(OTHER).macs


@every_network
def test_saving_and_loading_changes_nothing(name: str, tmp_path: Path) -> None:
    network = small(name).eval()
    save_model(network, tmp_path)
    again = load_model(tmp_path)
    images = torch.randn(1, 2, *SIZE)
    with torch.no_grad():
        assert torch.equal(network(images), again(images))
    assert again.config == network.config
    assert config_from_json(config.to_json(network.config)) == network.config


@every_network
def test_training_output_reaches_every_parameter(name: str) -> None:
    network = small(name).train()
    output = network.training_output(torch.randn(2, 2, *SIZE))
    assert output.logits.shape == (2, 3, *SIZE)
    loss = output.logits.square().mean() + sum((head.logits.square().mean() for head in output.heads), torch.zeros(()))
    (loss if output.penalty is None else loss + output.penalty).backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@every_network
def test_refuses_wrong_images(name: str) -> None:
    network = small(name)
    with expect_error("in_channels", 1, 2):
        network(torch.zeros(1, 1, *SIZE))
    if (multiple := network.config.input_requirements.multiple) > 1:
        with expect_error("image_size", f"{SIZE[0] + multiple}x{SIZE[1]}"):
            network(torch.zeros(1, 2, SIZE[0] + 1, SIZE[1]))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_ATTENTION])
def test_refuses_attention_where_there_is_none(name: str) -> None:
    with expect_error("attention", SMALL[name].name):
        dataclasses.replace(SMALL[name], attention=MECHANISMS["kv"]())
