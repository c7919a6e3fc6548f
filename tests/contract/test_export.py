"""One body for every network with every mechanism: the graph gives what the network gives, at other sizes too.

``export_onnx`` compares by itself; here its word is not taken for it, on other images, batches and sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import gossamer
import gossamer.bundle.export_onnx
from gossamer.bundle.export_onnx import TOLERANCE, export_onnx, is_dynamic
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import MECHANISMS, Attention
from gossamer.nn.models import MODELS, PRESETS, Network

# The smallest of each kind: an export takes seconds a block.
SMALL: dict[str, dict[str, Any]] = {
    "vit_nano": {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 4},
    "cvt_classifier_small": {"dims": (8, 16, 24), "depths": (1, 1, 1), "num_heads": (1, 2, 2)},
    "apformer_classifier_small": {"width": 4, "dim": 16, "depth": 1, "num_heads": 2},
    "soft_pyramid_small": {"dims": (8, 16, 16, 24), "depths": (1, 1, 1, 1), "num_heads": (2, 2, 2, 2)},
    "sadnn_classifier": {"widths": (16, 32), "depths": (1, 1), "num_heads": 2, "hidden": (8,)},
    "sadnn_classifier_small": {"widths": (16, 32), "depths": (1, 1), "num_heads": 2, "hidden": ()},
    "resnet_18_small": {"width": 8, "depths": (1, 1, 1, 1)},
    "setr_naive_small": {"dim": 32, "depth": 1, "num_heads": 2},
    "setr_pup_small": {"dim": 32, "depth": 1, "num_heads": 2},
    "setr_mla_small": {"dim": 32, "depth": 4, "num_heads": 2},
    "transunet_small": {"dim": 32, "depth": 1, "num_heads": 2},
    "cvt_small": {"dims": (16, 32, 32), "depths": (1, 1, 1), "num_heads": (1, 2, 2)},
    "apformer_small": {"depth": 1},
    "sadnn_segmenter_small": {},
    "sumnet_small": {},
    "unet_16": {},
    "monai_unet": {},
    "monai_swin_unetr": {},
}
BOUND: dict[str, str] = {}
"""Networks whose graph takes one size alone, and why."""
# A dozen that stand for all: each network once, each mechanism once, where they are quickest.
QUICK = {
    ("vit_nano", "softmax"), ("vit_nano", "sequence_norm"), ("vit_nano", "local"), ("vit_nano", "kv_pos"),
    ("soft_pyramid_small", "sima"), ("apformer_classifier_small", "adaptive"), ("transunet_small", "kv"),
    ("setr_naive_small", "soft"), ("resnet_18_small", None), ("sadnn_classifier", None), ("sumnet_small", None),
}  # fmt: skip


def _pairs() -> Iterator[Any]:
    for preset in SMALL:
        attending = "attention" in {field.name for field in fields(PRESETS[preset])}
        for attention in sorted(MECHANISMS) if attending else [None]:
            quick = (preset, attention) in QUICK
            yield pytest.param(preset, attention, marks=[] if quick else [pytest.mark.slow])


@pytest.fixture(autouse=True)
def _traceable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run-time checks of shapes are Python that an exporter cannot trace."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def small(preset: str, attention: str | None = None, **changes: Any) -> Network:
    """A network whose parameters are all random, so that no initial value hides a term."""
    torch.manual_seed(0)
    size = (64, 96) if PRESETS[preset].task == "segment" else (32, 48)
    values = {**SMALL[preset], "image_size": size, "in_channels": 2, "num_classes": 3, **changes}
    network = gossamer.create_model(preset, attention=attention, **values).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return network


def test_every_network_is_exported_small() -> None:
    assert {PRESETS[preset].name for preset in SMALL} == set(MODELS)
    pairs = [tuple(pair.values) for pair in _pairs()]
    assert set(pairs) >= QUICK
    assert {attention for _, attention in QUICK} >= set(MECHANISMS) - {"soft_norm"}


@pytest.mark.parametrize(("preset", "attention"), _pairs())
def test_onnx_runtime_equals_eager_on_another_batch_and_size(preset: str, attention: str | None) -> None:
    network = small(preset, attention)
    data = export_onnx(network)
    assert is_dynamic(data) == (preset not in BOUND)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (rows, columns), step = network.config.image_size, network.config.multiple
    sizes = [(rows, columns)]
    if preset not in BOUND:
        sizes += [(rows + 2 * step, columns + step), (2 * rows, columns)]
    for batch, size in zip((4, 2, 1), sizes, strict=False):
        images = torch.randn(batch, 2, *size, generator=torch.Generator().manual_seed(7))
        (found,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = network(images).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * max(1.0, np.abs(wanted).max()))


def test_the_network_is_left_as_it_is() -> None:
    network = small("vit_nano", "sequence_norm").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export_onnx(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for module in network.modules():
        if isinstance(module, Attention):
            assert module._pinned is None
            assert not module._forward_pre_hooks


def test_what_cannot_be_traced_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Looking(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features * 2 if float(features.sum()) > 0 else features

    network = small("resnet_18_small")
    network.classifier = nn.Sequential(network.classifier, Looking())  # type: ignore[assignment]
    with pytest.raises(GossamerError, match=r"resnet: cannot be traced \(.+\)") as caught:
        export_onnx(network)
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_a_graph_that_gives_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gossamer.bundle.export_onnx._traced

    def wrong(*arguments: Any) -> onnx.ModelProto:
        model = right(*arguments)
        (bias,) = [weight for weight in model.graph.initializer if weight.name == "classifier.bias"]
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name))
        return model

    monkeypatch.setattr(gossamer.bundle.export_onnx, "_traced", wrong)
    with pytest.raises(GossamerError, match=r"logits of its graph differ by 0\.001") as caught:
        export_onnx(small("resnet_18_small"))
    assert caught.value.code is ErrorCode.UNSUPPORTED
