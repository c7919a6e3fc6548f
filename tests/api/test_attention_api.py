"""Attention layers for one's own network, and the check of mechanisms of users."""

from __future__ import annotations

import json
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch import nn

import gossamer
from gossamer.api.attention import AttentionReport
from gossamer.cli.main import run
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import MECHANISMS, SoftConfig, attention_config

MADE = Path(__file__).parents[1] / "made_mechanisms"
NEED_A_GRID = {"soft", "soft_norm", "local", "adaptive"}


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_a_layer_works_in_a_network_of_ones_own(name: str) -> None:
    torch.manual_seed(0)
    layer = gossamer.create_attention(name, dim=64, num_heads=4, grid=(8, 8))
    assert isinstance(layer, nn.Module)
    tokens = torch.randn(2, 64, 64)
    out = layer(tokens, (8, 8))
    assert out.shape == tokens.shape
    out.sum().backward()


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_the_grid_is_optional_where_a_mechanism_does_not_need_it(name: str) -> None:
    if name in NEED_A_GRID:
        with pytest.raises(GossamerError) as caught:
            gossamer.create_attention(name, 64, 4)
        assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "grid")
    else:
        torch.manual_seed(0)
        without = gossamer.create_attention(name, 64, 4)
        torch.manual_seed(0)
        with_grid = gossamer.create_attention(name, 64, 4, grid=(8, 8))
        assert all(torch.equal(a, b) for a, b in zip(without.parameters(), with_grid.parameters(), strict=True))


def test_layers_take_parameters_configs_and_files() -> None:
    layer = gossamer.create_attention({"name": "soft", "steps": 3}, 64, 4, grid=(8, 8))
    assert layer.config == gossamer.create_attention(SoftConfig(steps=3), 64, 4, grid=(8, 8)).config
    assert gossamer.create_attention(f"{MADE / 'linear.py'}:LinearConfig", 64, 4).num_heads == 4


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        gossamer.create_attention("softmax", 64, 5)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "num_heads")


@pytest.fixture(scope="module")
def reports() -> dict[str, AttentionReport]:
    """Reports of the files in ``made_mechanisms``, by the names of the files."""
    disabled = jaxtyping.config.jaxtyping_disable
    # The run-time checks of shapes are Python that an exporter cannot trace.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        return {name: gossamer.check_attention(MADE / f"{name}.py") for name in ("linear", "broken")}
    finally:
        jaxtyping.config.update("jaxtyping_disable", disabled)


def outcomes(report: AttentionReport, mechanism: str, outcome: str) -> set[str]:
    return {check.check for check in report.checks if (check.mechanism, check.outcome) == (mechanism, outcome)}


def test_a_correct_mechanism_passes_everything(reports: dict[str, AttentionReport]) -> None:
    report = reports["linear"]
    assert report.passed
    assert {check.outcome for check in report.checks} == {"passed"}
    assert len(report.checks) >= 15


@pytest.mark.parametrize(
    ("mechanism", "failed"),
    [
        ("wrong_cost", {"cost"}),
        ("ignored_mask", {"token mask"}),
        ("not_exportable", {"ONNX"}),
        ("wrong_gradient", {"gradients", "gradients of the dense form"}),
        ("refusing", set()),
    ],
)
def test_a_broken_promise_is_found(reports: dict[str, AttentionReport], mechanism: str, failed: set[str]) -> None:
    assert outcomes(reports["broken"], mechanism, "failed") == failed
    assert not reports["broken"].passed


def test_refusals_are_told_with_their_reason(reports: dict[str, AttentionReport]) -> None:
    assert outcomes(reports["broken"], "refusing", "refused") == {"token mask", "ONNX"}
    refusals = [check.detail for check in reports["broken"].checks if check.outcome == "refused"]
    assert refusals == ["is for training on whole images"] * 2


def test_a_failed_cost_names_both_numbers(reports: dict[str, AttentionReport]) -> None:
    (check,) = [each for each in reports["broken"].checks if (each.mechanism, each.check) == ("wrong_cost", "cost")]
    closed = attention_config(f"{MADE / 'broken.py'}:WrongCostConfig").build(16, 4).cost((3, 5)).macs
    assert f"{closed:,}" in check.detail
    assert f"{closed + 15 * 15 * 16:,}" in check.detail


def test_reports_show_themselves(reports: dict[str, AttentionReport]) -> None:
    report = reports["broken"]
    assert len(report.summary_tables()) == 5
    assert "wrong_cost" in repr(report)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["passed"] is False
    assert {"mechanism", "check", "outcome", "detail"} == set(data["checks"][0])


def test_checks_leave_the_random_state_alone() -> None:
    from gossamer.api.attention_checks import check_dropout
    from gossamer.api.attention_samples import CheckSize

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check_dropout(attention_config("softmax"), CheckSize(12, 3, (5, 4)))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("reference", "status"), [("linear.py", 0), ("broken.py:WrongCostConfig", 65), ("none.py", 66)]
)
def test_the_verb_exits_with_the_outcome(
    reference: str, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert run(["check-attention", str(MADE / reference), "--threads", "1", "--json"]) == status
    answer = json.loads(capsys.readouterr().out)
    assert answer.get("passed", False) is (status == 0)
