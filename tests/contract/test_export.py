"""One body for every network with every mechanism: the graph gives what the network gives, at other sizes too.

``export_onnx`` compares by itself; here its word is not taken for it, on other images, batches and sizes.
"""

from __future__ import annotations

from typing import Any

import jaxtyping
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import gossamer
import gossamer.exporting.export_onnx
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.export_onnx import TOLERANCE, export_onnx, is_dynamic
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import MODELS, PRESETS, Network
from made_bundles import onnx_model

SOFT = {"dims": (8, 16, 16, 24), "depths": (1, 1, 1, 1), "num_heads": (2, 2, 2, 2)}
# The smallest of each kind: an export takes seconds a block.
SMALL: dict[str, dict[str, Any]] = {
    "vit_nano": {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 4},
    "cvt_classifier_small": {"dims": (8, 16, 24), "depths": (1, 1, 1), "num_heads": (1, 2, 2)},
    "apformer_classifier_small": {"width": 4, "dim": 16, "depth": 1, "num_heads": 2},
    "soft_pyramid_small": SOFT,
    "sadnn_classifier": {"widths": (16, 32), "depths": (1, 1), "num_heads": 2, "hidden": (8,)},
    "sadnn_classifier_small": {"widths": (16, 32), "depths": (1, 1), "num_heads": 2, "hidden": ()},
    "soft_norm_pyramid_small": SOFT,
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
BOUND = {
    "sadnn_classifier": "its linear layers read each place of the last map",
    "monai_swin_unetr": "its windows are padded and masked by Python that asks for the size at every turn",
}
"""Networks whose graph takes one size alone, and why."""
# test_attention.py exports every mechanism by itself.
QUICK = {
    ("vit_nano", "sequence_norm"), ("apformer_classifier_small", "adaptive"), ("transunet_small", "kv"),
    ("resnet_18_small", None), ("sadnn_classifier", None), ("sumnet_small", None),
}  # fmt: skip


def _mechanisms(preset: str) -> list[str | None]:
    attending = PRESETS[preset].has_attention()
    return [*sorted(MECHANISMS)] if attending else [None]


def _marks(preset: str, attention: str | None) -> list[pytest.MarkDecorator]:
    """A few always, each mechanism once where time is not short, and every network with every one where asked for."""
    if (preset, attention) in QUICK:
        return []
    return [pytest.mark.slow if preset == "vit_nano" else pytest.mark.matrix]


PAIRS = [
    pytest.param(preset, attention, marks=_marks(preset, attention))
    for preset in SMALL
    for attention in _mechanisms(preset)
]


# Mechanisms with parameters that a preset has of its own: an exact inverse, which no graph has an operator for.
PAIRS += [
    pytest.param(preset, None, marks=pytest.mark.matrix) for preset in ("soft_pyramid_small", "soft_norm_pyramid_small")
]


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
    assert {tuple(pair.values) for pair in PAIRS} >= QUICK
    assert set(BOUND) <= set(SMALL)


@pytest.mark.parametrize(("preset", "attention"), PAIRS)
def test_onnx_runtime_equals_eager_on_another_batch_and_size(preset: str, attention: str | None) -> None:
    network = small(preset, attention)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = export_onnx(network.train())
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.eval().state_dict().items())
    assert all(getattr(module, "_pinned", None) is None for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert is_dynamic(data) == (preset not in BOUND)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (rows, columns), step = network.config.image_size, network.config.input_requirements.multiple
    sizes = [(rows, columns)]
    if preset not in BOUND:
        sizes += [(rows + 2 * step, columns + step), (2 * rows, columns)]
    for batch, size in zip((4, 2, 1), sizes, strict=False):
        images = torch.randn(batch, 2, *size, generator=torch.Generator().manual_seed(7))
        (found,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = network(images).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * max(1.0, np.abs(wanted).max()))


def test_the_cause_is_named_and_not_the_exporters_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        try:
            raise LookupError("\x1b[96mno operator\x1b[0m for cholesky\nand so on")
        except LookupError as cause:
            try:
                raise ValueError("this node") from cause
            except ValueError as middle:
                raise RuntimeError("\x1b[96mThis is step 3/3\x1b[0m. Next steps:") from middle

    monkeypatch.setattr(torch.export, "export", failing)
    network = small("resnet_18_small")
    with pytest.raises(GossamerError) as caught:
        export_onnx(network)
    assert "no operator for cholesky" in caught.value.problem
    assert "[96m" not in caught.value.problem
    assert "Next steps" not in caught.value.problem


def test_what_cannot_be_traced_is_refused_with_the_reason() -> None:
    class Looking(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features * 2 if float(features.sum()) > 0 else features

    network = small("resnet_18_small")
    network.classifier = nn.Sequential(network.classifier, Looking())  # type: ignore[assignment]
    with pytest.raises(GossamerError, match=r"resnet: cannot be traced \(.+\)") as caught:
        export_onnx(network)
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_a_graph_that_gives_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = onnx_model(2, 3, pooled=True, sides=("rows", "columns"))
    monkeypatch.setattr(gossamer.exporting.export_onnx, "_trace_network", lambda *_: other)
    with pytest.raises(GossamerError, match=r"logits of its graph differ by .+ for 3 images of 32x48") as caught:
        export_onnx(small("resnet_18_small"))
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_a_graph_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = onnx_model(2, 3, pooled=True, sides=("rows", "columns"))
    del broken.graph.node[1]
    monkeypatch.setattr(gossamer.exporting.export_onnx, "_trace_network", lambda *_: broken)
    with pytest.raises(GossamerError, match="not a valid ONNX model") as caught:
        export_onnx(small("resnet_18_small"))
    assert caught.value.code is ErrorCode.UNSUPPORTED
