"""One body for every network that segments: what the contract promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gossamer
from gossamer import config
from gossamer.checkpoint import load_model, save_model
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import MODELS, PRESETS, Segmenter, config_from_json, list_models
from gossamer.profiling.macs import count_macs

SIZE, OTHER = (64, 96), (96, 64)
# One preset of each network, the smallest.
SMALLEST = {
    "setr": ("setr_naive_small", "setr_pup_small", "setr_mla_small"),
    "transunet": ("transunet_small",),
    "cvt": ("cvt_small",),
    "apformer": ("apformer_small",),
    "sadnn": ("sadnn_segmenter_small",),
    "sumnet": ("sumnet_small",),
    "unet": ("unet_16",),
    "monai_unet": ("monai_unet",),
    "monai_swin_unetr": ("monai_swin_unetr",),
}
NAMES = [name for names in SMALLEST.values() for name in names]
WITH_ATTENTION = [name for name in NAMES if PRESETS[name].has_attention()]
every_network = pytest.mark.parametrize("name", NAMES)
every_pair = pytest.mark.parametrize(
    ("name", "attention"), [(n, a) for n in WITH_ATTENTION for a in sorted(MECHANISMS)]
)


def small(name: str, **changes: object) -> Segmenter:
    torch.manual_seed(0)
    network = gossamer.create_model(name, image_size=SIZE, in_channels=2, num_classes=3, **changes)  # type: ignore[arg-type]
    assert isinstance(network, Segmenter)
    return network


def test_every_network_is_tested() -> None:
    assert set(SMALLEST) == {name for name, kind in MODELS.items() if kind.task == "segment"}
    assert set(NAMES) <= set(list_models(task="segment"))


@every_network
def test_forward_gives_a_map_a_class_for_every_image_alone(name: str) -> None:
    network = small(name).eval()
    images = torch.randn(2, 2, *SIZE)
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (2, 3, *SIZE)
        torch.testing.assert_close(logits[1:], network(images[1:]), rtol=1e-3, atol=1e-4)


@every_pair
def test_every_mechanism_fits_and_its_closed_form_equals_counted_macs(name: str, attention: str) -> None:
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
def test_save_and_load_are_the_identity(name: str, tmp_path: Path) -> None:
    network = small(name).eval()
    save_model(network, tmp_path)
    again = load_model(tmp_path)
    images = torch.randn(1, 2, *SIZE)
    with torch.no_grad():
        assert torch.equal(network(images), again(images))
    assert again.config == network.config
    assert config_from_json(config.to_json(network.config)) == network.config


@every_network
def test_training_outputs_have_the_logits_and_losses_of_the_contract(name: str) -> None:
    network = small(name).train()
    output = network.training_output(torch.randn(2, 2, *SIZE))
    assert output.logits.shape == (2, 3, *SIZE)
    loss = output.logits.square().mean() + sum((head.logits.square().mean() for head in output.heads), torch.zeros(()))
    (loss if output.penalty is None else loss + output.penalty).backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@every_network
def test_wrong_images_are_one_clear_line(name: str) -> None:
    network = small(name)
    with pytest.raises(GossamerError, match="the network takes 2") as caught:
        network(torch.zeros(1, 1, *SIZE))
    assert caught.value.code is ErrorCode.CONFIG
    if network.config.input_requirements.multiple > 1:
        with pytest.raises(GossamerError, match="pad to"):
            network(torch.zeros(1, 2, SIZE[0] + 1, SIZE[1]))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_ATTENTION])
def test_a_network_without_attention_refuses_one(name: str) -> None:
    with pytest.raises(GossamerError, match="attention"):
        gossamer.create_model(name, attention="kv")
