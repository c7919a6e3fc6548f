"""The APFormer classifier: its counts, the two stages of training, any mechanism, ONNX."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gossamer
from expected_errors import expect_error
from gossamer import config
from gossamer.checkpoint import load_model, save_model
from gossamer.nn.attention import MECHANISMS, AdaptiveConfig, SoftmaxConfig
from gossamer.nn.models import config_from_json
from gossamer.nn.models.apformer import APFormerConfig
from gossamer.nn.models.apformer_classifier import APFormerClassifier, APFormerClassifierConfig
from gossamer.profiling.macs import count_macs

SMALL = APFormerClassifierConfig(
    image_size=(40, 24),
    in_channels=2,
    num_classes=3,
    width=4,
    dim=12,
    depth=2,
    num_heads=5,
    attention=AdaptiveConfig(head_dim=6),
    norm="group",
)
every_mechanism = pytest.mark.parametrize("attention", sorted(MECHANISMS))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def small(**changes: object) -> APFormerClassifier:
    torch.manual_seed(1)
    return dataclasses.replace(SMALL, **changes).build()  # type: ignore[arg-type]


def images(size: tuple[int, int] = (40, 24), batch: int = 2) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(batch, 2, *size)


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "attention"),
    [(3, 1000, {}), (1, 14, {}), (1, 2, {"gate": "none"}), (3, 2, {"relative_position": False})],
)
def test_parameters_of_the_specification(in_channels: int, num_classes: int, attention: dict[str, object]) -> None:
    """Encoder, embedding and layers are those of its section 3.2; norm and classifier are ours."""
    mechanism = AdaptiveConfig(head_dim=128, **attention)  # type: ignore[arg-type]
    layer = 549_517
    layer -= 0 if mechanism.relative_position else 23_820
    layer -= 129 if mechanism.gate == "none" else 0
    encoder = 2_800 - 9 * 16 * (3 - in_channels) + 13_952 + 55_552 + 221_696
    with torch.device("meta"):
        model = APFormerClassifierConfig(
            image_size=(256, 256), in_channels=in_channels, num_classes=num_classes, attention=mechanism
        ).build()
    assert parameters(model) == encoder + 16_512 + 4 * layer + 2 * 128 + 129 * num_classes


def test_macs_of_the_specification() -> None:
    # The whole of APFormer less its decoder, its 1x1 convolutions and its head; then the classifier.
    decoder = 64**2 * (2 * 64 * 64 + 64 * 32) * 9 + 128**2 * (2 * 32 * 32 + 32 * 16) * 9
    decoder += 256**2 * (2 * 16 * 16 + 16 * 16) * 9 + 32**2 * 128 * 64 + 256**2 * 16 * 2
    head = 32**2 * 128 * 2
    dense = 10_684_203_008 - decoder - head + 2 * 128
    gated = AdaptiveConfig(head_dim=128)
    for attention, macs in ((dataclasses.replace(gated, gate="none"), dense), (gated, dense + 4 * 786_432)):
        found = APFormerClassifierConfig(image_size=(256, 256), num_classes=2, attention=attention).build().cost().macs
        assert found == macs
    # The page's transformer branch, with the gating's renormalization and the head, and the encoder.
    encoder = 256**2 * (3 + 16) * 16 * 9 + 128**2 * (16 + 32) * 32 * 9
    encoder += 64**2 * (32 + 64) * 64 * 9 + 32**2 * (64 + 128) * 128 * 9
    assert found == pytest.approx(8_635_285_504 + encoder, rel=0.005)


@every_mechanism
def test_every_mechanism_fits(attention: str) -> None:
    model = small(attention=MECHANISMS[attention](), num_heads=None).eval()
    assert model.config.heads == 6
    for size in ((40, 24), (28, 36)):
        assert model.cost(size).macs == count_macs(model, torch.zeros(1, 2, *size)).total
        given = images(size, 3)
        logits = model(given)
        assert logits.shape == (3, 3)
        torch.testing.assert_close(logits[1:2], model(given[1:2]), rtol=1e-4, atol=1e-5)
    output = model.training_output(images())
    assert output.logits.shape == (2, 3)
    if attention != "adaptive":
        assert output.penalty is None
        assert model.begin_epoch(0.0)


def test_uses_every_pixel_of_an_odd_side() -> None:
    model = small().eval()
    given = images((29, 27)).requires_grad_()
    assert model.encoder(given)[-1].shape == (2, 32, 4, 4)
    (gradient,) = torch.autograd.grad(model(given).sum(), given)
    assert (gradient.abs().sum(dim=1) > 0).all()
    assert dataclasses.replace(SMALL, image_size=(29, 27)).grid == (4, 4)


def test_shares_the_encoder_with_the_segmentation_network() -> None:
    model = small()
    shared = {field.name: getattr(SMALL, field.name) for field in dataclasses.fields(SMALL)}
    given = {name: value for name, value in model.state_dict().items() if not name.startswith("classifier.")}
    missing = APFormerConfig(**shared).build().load_state_dict(given, strict=False)
    assert missing.unexpected_keys == ["norm.weight", "norm.bias"]
    assert {name.split(".")[0] for name in missing.missing_keys} == {
        "foreground_head", "narrow", "decoder", "classifier",
    }  # fmt: skip


def test_stages_of_training() -> None:
    model = small(warmup_share=0.25).eval()
    fresh = model(images())
    assert not model.begin_epoch(0.0)
    assert not model.begin_epoch(0.24)
    dense = small(attention=AdaptiveConfig(head_dim=6, gate="none")).eval()
    dense.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(model(images()), dense(images()))
    assert not torch.equal(model(images()), fresh)
    prior = model.training_output(images()).penalty
    assert prior is not None
    torch.testing.assert_close(prior, dense.training_output(images()).penalty)
    assert float(prior.detach()) >= 0.1 * 0.08
    assert model.begin_epoch(0.25)
    torch.testing.assert_close(model(images()), fresh)
    assert model.training_output(images()).penalty > prior
    assert dense.begin_epoch(0.0)


def test_the_auxiliary_loss_is_the_mean_over_blocks() -> None:
    model = small().eval()
    seen: list[Tensor] = []
    for block in model.blocks:
        block.attention.register_forward_hook(  # type: ignore[union-attr]
            lambda attention, inputs, output: seen.append(attention.auxiliary_loss(inputs[0], inputs[1]))
        )
    found = model.training_output(images()).penalty
    assert len(seen) == 2
    torch.testing.assert_close(found, (seen[0] + seen[1]) / 2)


@pytest.mark.parametrize("progress", [0.0, 1.0])
@pytest.mark.parametrize("position", ["none", "learned"])
def test_every_parameter_has_a_gradient_in_both_stages(progress: float, position: str) -> None:
    model = small(position=position)
    model.begin_epoch(progress)
    output = model.training_output(images())
    output.add_penalty(output.logits.square().sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    gates = [parameter.grad for name, parameter in model.named_parameters() if name.endswith("gate_level")]
    assert [bool((gradient != 0).all()) for gradient in gates if gradient is not None] == [progress == 1.0] * 2


def test_save_and_load_are_the_identity(tmp_path: Path) -> None:
    model = small(position="learned", norm="batch").eval()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert torch.equal(model(images()), again(images()))
    assert again.config == model.config
    assert config_from_json(config.to_json(model.config)) == model.config


def test_onnx_runtime_equals_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    # The run-time checks of shapes are Python that an exporter cannot trace.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = small(depth=1).eval()
    size = (28, 20)
    free = {"images": {0: torch.export.Dim.DYNAMIC}}
    with torch.no_grad():
        program = torch.onnx.export(
            model, (torch.zeros(2, 2, *size),), dynamo=True, dynamic_shapes=free, verbose=False, optimize=True
        )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    given = images(size, 3)
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])
    with torch.no_grad():
        np.testing.assert_allclose(found, model(given).numpy(), rtol=1e-4, atol=1e-5)


def test_one_batch_can_be_overfitted() -> None:
    model = small(dropout=0.0, norm="batch")
    given, labels = images(batch=6), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        output = model.training_output(given)
        loss = nn.functional.cross_entropy(output.logits, labels)
        optimizer.zero_grad()
        output.add_penalty(loss).backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1


@pytest.mark.parametrize(
    ("changes", "where", "shown"),
    [
        ({"num_heads": 6, "attention": SoftmaxConfig()}, "num_heads", "128"),
        ({"warmup_share": 1.0}, "warmup_share", "1.0"),
        ({"depth": 0}, "depth", "0"),
        ({"image_size": (0, 8)}, "image_size", "1x8"),
    ],
)
def test_refuses_bad_values(changes: dict[str, object], where: str, shown: str) -> None:
    with expect_error(where, shown):
        APFormerClassifierConfig(**changes)  # type: ignore[arg-type]


def test_presets() -> None:
    with torch.device("meta"):
        model = gossamer.create_model("apformer_classifier_small", in_channels=1, num_classes=2)
    assert 0.05e9 < model.cost().macs < 0.3e9
    assert 1e6 < parameters(model) < 4e6
    assert gossamer.create_model("apformer_classifier", attention="kv", image_size=(64, 64)).config.heads == 4  # type: ignore[attr-defined]
    with expect_error("in_channels", 1, 2):
        small()(torch.zeros(2, 1, 40, 24))
