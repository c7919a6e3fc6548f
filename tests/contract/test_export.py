"""Graphs of every network with every mechanism give the logits of the network, at other sizes too.

``export_onnx`` compares by itself; this comparison is independent of it, on other images, batches and sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import gossamer.exporting.export_onnx
from expected_errors import expect_error
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.export_onnx import TOLERANCE, export_onnx, is_dynamic
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import MODELS, SMALL, Network, NetworkConfig
from made_bundles import onnx_model

# Mechanisms are exported by test_attention.py, too; these pairs are exported in every run of the tests.
QUICK = {
    ("vit", "sequence_norm"), ("apformer_classifier", "adaptive"), ("transunet", "kv"),
    ("resnet", None), ("sadnn_classifier_flatten", None), ("sumnet", None),
}  # fmt: skip


def every_pair() -> Iterator[tuple[str, str | None]]:
    """Every small form with every mechanism, and with its own where that has other parameters; each network once."""
    seen: list[NetworkConfig] = []
    for name, form in SMALL.items():
        mechanisms = sorted(MECHANISMS) if form.has_attention() else []
        changed = [(one, dataclasses.replace(form, attention=MECHANISMS[one]())) for one in mechanisms]
        for mechanism, network in [*changed, (None, form)]:
            if network not in seen:
                seen.append(network)
                yield name, mechanism


def marks(name: str, attention: str | None) -> list[pytest.MarkDecorator]:
    """A few pairs always, each mechanism once in the slow tests, and every pair in the matrix."""
    if (name, attention) in QUICK:
        return []
    return [pytest.mark.slow if name == "vit" else pytest.mark.matrix]


PAIRS = [pytest.param(*pair, marks=marks(*pair)) for pair in every_pair()]


@pytest.fixture(autouse=True)
def _traceable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run-time checks of shapes are Python that an exporter cannot trace."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def small(name: str, attention: str | None = None) -> Network:
    """A network whose parameters are all random, so that no initial value hides a term."""
    torch.manual_seed(0)
    size = (64, 96) if SMALL[name].task == "segment" else (32, 48)
    values: dict[str, Any] = {"image_size": size, "in_channels": 2, "num_classes": 3}
    if attention is not None:
        values["attention"] = MECHANISMS[attention]()
    network = dataclasses.replace(SMALL[name], **values).with_supported_readout().build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return network


def test_every_network_is_exported() -> None:
    assert {SMALL[str(pair.values[0])].name for pair in PAIRS} == set(MODELS)
    assert {tuple(pair.values) for pair in PAIRS} >= QUICK


@pytest.mark.parametrize(("name", "attention"), PAIRS)
def test_onnx_runtime_equals_eager_on_another_batch_and_size(name: str, attention: str | None) -> None:
    network = small(name, attention)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    data = export_onnx(network.train())
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.eval().state_dict().items())
    assert all(getattr(module, "_pinned", None) is None for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())
    requirements = network.config.input_requirements
    dynamic = requirements.traceable_sizes and requirements.fixed_size is None
    assert is_dynamic(data) == dynamic
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (rows, columns), step = network.config.image_size, requirements.multiple
    sizes = [(rows, columns)]
    if dynamic:
        sizes += [(rows + 2 * step, columns + step), (2 * rows, columns)]
    for batch, size in zip((4, 2, 1), sizes, strict=False):
        images = torch.randn(batch, 2, *size, generator=torch.Generator().manual_seed(7))
        (found,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = network(images).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * max(1.0, np.abs(wanted).max()))


def test_error_has_the_cause_without_the_exporters_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        try:
            raise LookupError("\x1b[96mno operator\x1b[0m for cholesky\nand so on")
        except LookupError as cause:
            try:
                raise ValueError("this node") from cause
            except ValueError as middle:
                raise RuntimeError("\x1b[96mThis is step 3/3\x1b[0m. Next steps:") from middle

    monkeypatch.setattr(torch.export, "export", failing)
    network = small("resnet")
    with pytest.raises(GossamerError) as caught:
        export_onnx(network)
    assert "no operator for cholesky" in caught.value.problem
    assert "[96m" not in caught.value.problem
    assert "Next steps" not in caught.value.problem


def test_refuses_what_cannot_be_traced() -> None:
    class Looking(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features * 2 if float(features.sum()) > 0 else features

    network = small("resnet")
    network.classifier = nn.Sequential(network.classifier, Looking())  # type: ignore[assignment]
    with expect_error("resnet", code=ErrorCode.UNSUPPORTED):
        export_onnx(network)


def test_refuses_a_graph_with_other_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    other = onnx_model(2, 3, pooled=True, sides=("rows", "columns"))
    monkeypatch.setattr(gossamer.exporting.export_onnx, "_trace_network", lambda *_: other)
    with expect_error("resnet", "3 images", "32x48", code=ErrorCode.UNSUPPORTED):
        export_onnx(small("resnet"))


def test_refuses_an_invalid_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = onnx_model(2, 3, pooled=True, sides=("rows", "columns"))
    del broken.graph.node[1]
    monkeypatch.setattr(gossamer.exporting.export_onnx, "_trace_network", lambda *_: broken)
    with expect_error("export", "ONNX", code=ErrorCode.UNSUPPORTED):
        export_onnx(small("resnet"))
