"""The CvT classifier: the counts of its specification, its two readouts, any mechanism, ONNX."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

import gossamer
from expected_errors import expect_error
from gossamer import config
from gossamer.checkpoint import load_model, save_model
from gossamer.errors import ErrorCode
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.layers.convolutional_attention import KeyStride
from gossamer.nn.models import config_from_json
from gossamer.nn.models.cvt import CvTConfig
from gossamer.nn.models.cvt_classifier import CvTClassifier, CvTClassifierConfig
from gossamer.profiling.macs import count_macs

SMALL = CvTClassifierConfig(
    image_size=(32, 48),
    in_channels=2,
    num_classes=3,
    dims=(8, 12, 16),
    depths=(1, 1, 2),
    num_heads=(1, 2, 4),
    drop_path=0.0,
)
every_mechanism = pytest.mark.parametrize("attention", sorted(MECHANISMS))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def small(attention: str = "softmax", **changes: object) -> CvTClassifier:
    torch.manual_seed(0)
    values = {"attention": MECHANISMS[attention](), **changes}
    return dataclasses.replace(SMALL, **values).with_supported_readout().build()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attention", "key_stride", "count", "macs"),
    [
        ("softmax", "shared_slice", 19_997_480, 4_566_089_216),
        ("kv", "shared_slice", 18_393_640, 4_471_876_864),
        ("kv", "s1", 18_393_640, 6_270_648_832),
        ("kv", "s2", 18_393_640, 3_812_677_120),
    ],
)
def test_counts_of_the_published_classifier(attention: str, key_stride: KeyStride, count: int, macs: int) -> None:
    with torch.device("meta"):
        model = gossamer.create_model("cvt_13_classifier", attention=attention, key_stride=key_stride)
    assert parameters(model) == count
    assert model.cost().macs == macs
    if attention == "softmax":
        assert parameters(model) == pytest.approx(20e6, rel=0.005)  # the figures of the authors' table
        assert macs == pytest.approx(4.5e9, rel=0.015)  # to its two digits


def test_counts_follow_from_the_layers() -> None:
    """Of 3 channels and 1000 classes, from the widths alone."""
    count = macs = 0
    before, side = 3, 224
    for dim, depth, kernel, stride, prefix in ((64, 1, 7, 4, 0), (192, 2, 3, 2, 0), (384, 10, 3, 2, 1)):
        side //= stride
        grid, fewer = side**2, (side // 2) ** 2
        count += before * dim * kernel**2 + 3 * dim + prefix * dim
        macs += grid * before * dim * kernel**2
        convolutions, linears = 3 * (9 * dim + 2 * dim), 4 * (dim**2 + dim)
        count += depth * (convolutions + linears + 8 * dim**2 + 5 * dim + 4 * dim)
        queries, keys = grid + prefix, fewer + prefix
        layer = 9 * dim * (grid + 2 * fewer) + dim**2 * (2 * queries + 2 * keys) + 2 * queries * keys * dim
        macs += depth * (layer + 8 * dim**2 * queries)
        before = dim
    with torch.device("meta"):
        model = CvTClassifierConfig().build()
    assert parameters(model) == count + 2 * 384 + 385 * 1000
    assert model.cost().macs == macs + 384 * 1000


def test_the_mean_leaves_out_one_token() -> None:
    with torch.device("meta"):
        model = CvTClassifierConfig(pooling="mean").build()
    assert parameters(model) == 19_997_480 - 384
    queries, keys = 196, 49
    of_token = 10 * (2 * 384 * (queries + keys + 1) + (2 + 2 + 8) * 384**2)
    assert model.cost().macs == 4_566_089_216 - of_token


@every_mechanism
def test_every_mechanism_fits(attention: str) -> None:
    model = small(attention).eval()
    assert model.config.pooling == ("mean" if attention == "local" else "class_token")
    for size in ((32, 48), (28, 20)):
        assert model.cost(size).macs == count_macs(model, torch.zeros(1, 2, *size)).total
        images = torch.randn(3, 2, *size)
        logits = model(images)
        assert logits.shape == (3, 3)
        torch.testing.assert_close(logits[1:2], model(images[1:2]), rtol=1e-4, atol=1e-5)


@every_mechanism
def test_the_mean_of_the_tokens_fits_every_mechanism(attention: str) -> None:
    model = small(attention, pooling="mean")
    assert [name for name, _ in model.named_parameters() if "class_token" in name] == []
    assert model.cost((36, 20)).macs == count_macs(model, torch.zeros(1, 2, 36, 20)).total


def test_unsupported_class_token_names_the_other_readout() -> None:
    with expect_error("local", 'pooling="mean"', code=ErrorCode.UNSUPPORTED):
        dataclasses.replace(SMALL, attention=MECHANISMS["local"]()).build()
    model = gossamer.create_model("cvt_13_classifier", attention="local", image_size=(32, 32))
    assert model.config.pooling == "mean"  # type: ignore[attr-defined]


def test_readout_of_each_pooling() -> None:
    images = torch.randn(2, 2, 32, 48)
    for pooling in ("class_token", "mean"):
        model = small(pooling=pooling).eval()
        planes, token = model.encoder(images)
        expected = planes[-1].flatten(2).mean(dim=2) if token is None else token
        assert (token is None) == (pooling == "mean")
        torch.testing.assert_close(model(images), expected @ model.classifier.weight.T + model.classifier.bias)


def test_shares_the_encoder_with_the_segmentation_network() -> None:
    model = small()
    shared = {field.name: getattr(SMALL, field.name) for field in dataclasses.fields(SMALL) if field.name != "pooling"}
    segmenter = CvTConfig(**shared).build()
    missing = segmenter.encoder.load_state_dict(model.encoder.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert missing.unexpected_keys == ["stages.2.class_token"]


@pytest.mark.parametrize("attention", ["softmax", "kv", "kv_pos", "sequence_norm", "soft", "local", "adaptive"])
def test_every_parameter_is_reached(attention: str) -> None:
    model = small(attention)
    output = model.training_output(torch.randn(2, 2, 32, 48))
    output.add_penalty(output.logits.square().sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert (output.penalty is not None and float(output.penalty.detach()) > 0) == (attention == "adaptive")
    token = model.encoder.stages[-1].class_token
    assert token is None or (isinstance(token.grad, torch.Tensor) and bool((token.grad != 0).any()))
    assert model.begin_epoch(0.0)


def test_save_and_load_are_the_identity(tmp_path: Path) -> None:
    model = small("kv_pos", pooling="mean").eval()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    images = torch.randn(2, 2, 32, 48)
    assert torch.equal(model(images), again(images))
    assert again.config == model.config
    assert config_from_json(config.to_json(model.config)) == model.config


def test_onnx_runtime_equals_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    # The run-time checks of shapes are Python that an exporter cannot trace.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = small(depths=(1, 1, 1)).eval()
    free = {"images": {0: torch.export.Dim.DYNAMIC}}
    with torch.no_grad():
        program = torch.onnx.export(
            model, (torch.zeros(2, 2, 32, 48),), dynamo=True, dynamic_shapes=free, verbose=False, optimize=True
        )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = torch.randn(3, 2, 32, 48)
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    with torch.no_grad():
        np.testing.assert_allclose(found, model(images).numpy(), rtol=1e-4, atol=1e-5)


def test_one_batch_can_be_overfitted() -> None:
    model = small()
    images, labels = torch.randn(6, 2, 32, 48), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05


@pytest.mark.parametrize(
    ("changes", "where", "shown"),
    [
        ({"image_size": (30, 64)}, "image_size", "32x64"),
        ({"num_heads": (1, 3, 5)}, "num_heads", "5"),
        ({"depths": (1, 0, 2)}, "depths", "0"),
        ({"drop_path": 1.0}, "drop_path", "1.0"),
    ],
)
def test_refuses_bad_values(changes: dict[str, object], where: str, shown: str) -> None:
    with expect_error(where, shown):
        CvTClassifierConfig(**changes)  # type: ignore[arg-type]


def test_presets() -> None:
    with torch.device("meta"):
        model = gossamer.create_model("cvt_classifier_small", in_channels=1, num_classes=2)
    assert 0.05e9 < model.cost().macs < 0.3e9
    assert 1e6 < parameters(model) < 4e6
    with expect_error("in_channels", 1, 2):
        small()(torch.zeros(2, 1, 32, 48))
