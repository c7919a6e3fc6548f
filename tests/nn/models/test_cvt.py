"""CvT: the counts of its specification, the treatments of the key stride, other mechanisms."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import gossamer
from expected_errors import expect_error
from gossamer.nn.attention import MECHANISMS, AdaptiveConfig, AttentionConfig, KeyValueConfig, KeyValuePosConfig
from gossamer.nn.layers.convolutional_attention import KeyStride, TokenConvolution
from gossamer.nn.layers.traced_cost import trace_cost
from gossamer.nn.models.cvt import CvT, CvTConfig, CvTEncoder
from gossamer.profiling.macs import count_macs

PUBLISHED = CvTConfig(image_size=(224, 224), num_classes=3)
SMALL = CvTConfig(
    image_size=(32, 48),
    in_channels=2,
    num_classes=3,
    dims=(8, 12, 16),
    depths=(1, 1, 2),
    num_heads=(1, 2, 4),
    decoder_dims=(12, 10, 8, 6, 4),
    decoder_norm="group",
    drop_path=0.0,
)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def small(attention: str = "softmax", **changes: object) -> CvT:
    torch.manual_seed(0)
    return dataclasses.replace(SMALL, attention=MECHANISMS[attention](), **changes).build()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attention", "key_stride", "count", "macs"),
    [
        ("softmax", "shared_slice", 19_612_480, 4_565_705_216),
        ("kv", "s1", 18_008_640, 6_270_264_832),
        ("kv", "shared_twostride", 18_008_640, 4_565_705_216),
        ("kv", "shared_slice", 18_008_640, 4_471_492_864),
        ("kv", "s2", 18_008_640, 3_812_293_120),
    ],
)
def test_the_encoder_with_its_class_token(attention: str, key_stride: KeyStride, count: int, macs: int) -> None:
    config = dataclasses.replace(PUBLISHED, attention=MECHANISMS[attention](), key_stride=key_stride)
    with torch.device("meta"):
        encoder = CvTEncoder(config, class_token=True).eval()
        classifier = nn.Linear(384, 1000)
        without = CvTEncoder(config)
    assert parameters(encoder) == count
    assert parameters(encoder) + parameters(classifier) == {19_612_480: 19_997_480, 18_008_640: 18_393_640}[count]
    assert parameters(encoder) - parameters(without) == 384
    assert trace_cost(encoder, (3, 224, 224)).macs == macs


@pytest.mark.parametrize(
    ("attention", "count", "at_224", "at_256"),
    [
        (MECHANISMS["softmax"](), 21_344_307, 6_417_485_312, 8_584_527_872),
        (KeyValueConfig(), 19_740_467, 6_324_747_520, 8_463_400_960),
        (KeyValuePosConfig(), 19_740_467 + 13 * 51, 6_324_747_520 + 39_984, 8_463_400_960 + 52_224),
    ],
)
def test_encoder_and_decoder(attention: AttentionConfig, count: int, at_224: int, at_256: int) -> None:
    config = dataclasses.replace(PUBLISHED, attention=attention)
    with torch.device("meta"):
        model = config.build()
    assert parameters(model) == count
    assert model.cost().macs == at_224
    assert model.cost((256, 256)).macs == at_256


@pytest.mark.parametrize("attention", sorted(MECHANISMS))
def test_every_mechanism_fits(attention: str) -> None:
    model = small(attention)
    for size in ((32, 48), (48, 80)):
        assert model.cost(size).macs == count_macs(model, torch.zeros(1, 2, *size)).total
    images = torch.randn(2, 2, 48, 80)
    logits = model.eval()(images)
    assert logits.shape == (2, 3, 48, 80)
    torch.testing.assert_close(logits[1:], model(images[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["softmax", "kv", "kv_pos", "sequence_norm", "adaptive"])
def test_every_parameter_is_reached(attention: str) -> None:
    model = small(attention)
    output = model.training_output(torch.randn(2, 2, 32, 48))
    (output.logits.square().sum() + (0.0 if output.penalty is None else output.penalty)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_other_mechanisms_update_batch_statistics_once() -> None:
    model = small("adaptive")
    output = model.training_output(torch.randn(2, 2, 32, 48))
    assert output.penalty is not None
    assert float(output.penalty.detach()) > 0
    convolutions = [module for module in model.modules() if isinstance(module, TokenConvolution)]
    assert len(convolutions) == 4
    assert all(int(each.norm.num_batches_tracked) == 1 and each.stride == 1 for each in convolutions)  # type: ignore[arg-type]


def test_mechanisms_without_a_loss_have_no_penalty() -> None:
    assert small("kv").training_output(torch.randn(2, 2, 32, 48)).penalty is None


def test_the_encoder_reads_the_class_token_out() -> None:
    encoder = CvTEncoder(SMALL, class_token=True).eval()
    planes, readout = encoder(torch.randn(3, 2, 32, 48))
    assert [tuple(plane.shape) for plane in planes] == [(3, 8, 8, 12), (3, 12, 4, 6), (3, 16, 2, 3)]
    assert readout is not None
    assert readout.shape == (3, 16)
    assert CvTEncoder(SMALL).eval()(torch.randn(3, 2, 32, 48))[1] is None


def test_stochastic_depth_rises_within_the_last_stage() -> None:
    stages = CvTEncoder(CvTConfig(dims=(8, 8, 8), num_heads=(1, 1, 1))).stages
    rates = [[block.drop_path.probability for block in stage.blocks] for stage in stages]  # type: ignore[union-attr]
    assert rates[:2] == [[0.0], [0.0, 0.0]]
    assert rates[2] == pytest.approx([0.1 * place / 9 for place in range(10)])


def test_one_batch_can_be_overfitted() -> None:
    model = small("kv")
    images, truth = torch.randn(3, 2, 32, 48), torch.randint(0, 3, (3, 4, 6))
    truth = truth.repeat_interleave(8, 1).repeat_interleave(8, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = nn.functional.cross_entropy(model(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.15


@pytest.mark.parametrize(
    ("changes", "where", "shown"),
    [
        ({"image_size": (40, 64)}, "image_size", "48x64"),
        ({"num_heads": (1, 3, 5)}, "num_heads", "5"),
        ({"depths": (1, 0, 2)}, "depths", "0"),
        ({"drop_path": 1.0}, "drop_path", "1.0"),
        ({"mlp_ratio": 0.0}, "mlp_ratio", "0.0"),
    ],
)
def test_refuses_bad_values(changes: dict[str, object], where: str, shown: str) -> None:
    with expect_error(where, shown):
        CvTConfig(**changes)  # type: ignore[arg-type]


def test_presets() -> None:
    with torch.device("meta"):
        model = gossamer.create_model("cvt_13", attention="kv", key_stride="s2", image_size=(64, 96))
        assert model.config.key_stride == "s2"  # type: ignore[attr-defined]
        model = gossamer.create_model("cvt_small", attention=AdaptiveConfig(head_dim=24), in_channels=1)
    assert 0.1e9 < model.cost().macs < 0.3e9
    with expect_error("image_size", "60x64", 16, "64x64"):
        small()(torch.zeros(2, 2, 60, 64))
