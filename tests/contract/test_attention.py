"""One body for every attention mechanism: the checks of ``gossamer.api.attention_checks``, at drawn sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.api import attention_checks as checks
from gossamer.api.attention_samples import CheckSize, RefusalError
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import MECHANISMS, attention_config

GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 9))
HEADS = st.sampled_from([(6, 1), (12, 3), (20, 5), (16, 4)])

every_mechanism = pytest.mark.parametrize("name", sorted(MECHANISMS))


def passes(check: Callable[[], str]) -> None:
    """Make a check, which raises where it fails; a refusal skips the test with its reason."""
    try:
        check()
    except RefusalError as refusal:
        pytest.skip(str(refusal))


@every_mechanism
@settings(max_examples=40, deadline=None)
@given(grid=GRIDS, heads=HEADS, prefix=st.integers(0, 2))
def test_fast_equals_dense(name: str, grid: tuple[int, int], heads: tuple[int, int], prefix: int) -> None:
    checks.check_dense_form(MECHANISMS[name](), CheckSize(*heads, grid, prefix))


@every_mechanism
@pytest.mark.parametrize("grid", [(3, 7), (11, 13)])
def test_fast_equals_dense_on_another_grid_than_it_was_built_for(name: str, grid: tuple[int, int]) -> None:
    checks.check_dense_form(MECHANISMS[name](), CheckSize(12, 3, (5, 4), 1), grid)


@every_mechanism
def test_fast_equals_dense_in_float32(name: str) -> None:
    checks.check_float32(MECHANISMS[name](), CheckSize(16, 4, (5, 7), 1))


@every_mechanism
@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan"), float("inf")])
def test_masked_equals_truncated_or_is_refused(name: str, junk: float) -> None:
    passes(lambda: checks.check_token_mask(MECHANISMS[name](), CheckSize(12, 3, (1, 11)), junk))


@every_mechanism
def test_gradients(name: str) -> None:
    passes(lambda: checks.check_gradients(MECHANISMS[name](), CheckSize(4, 2, (2, 3), 1)))


@every_mechanism
def test_gradients_equal_those_of_the_definition(name: str) -> None:
    passes(lambda: checks.check_gradients_of_definition(MECHANISMS[name](), CheckSize(12, 3, (5, 7), 1)))


@every_mechanism
def test_evaluation_is_deterministic_under_dropout(name: str) -> None:
    checks.check_dropout(MECHANISMS[name](), CheckSize(12, 2, (3, 4)))


@every_mechanism
@pytest.mark.parametrize(("grid", "prefix"), [((3, 5), 0), ((7, 11), 1), ((1, 2), 2), ((40, 41), 1)])
def test_closed_form_equals_counted_macs(name: str, grid: tuple[int, int], prefix: int) -> None:
    checks.check_cost(MECHANISMS[name](), CheckSize(16, 4, grid, prefix))


@every_mechanism
def test_a_result_does_not_depend_on_the_batch(name: str) -> None:
    checks.check_batch_independence(MECHANISMS[name](), CheckSize(16, 4, (4, 5)))


@every_mechanism
def test_weights_are_saved_and_loaded(name: str) -> None:
    checks.check_state_dict(MECHANISMS[name](), CheckSize(16, 4, (4, 5), 1))


@every_mechanism
def test_configs_survive_json_and_are_frozen(name: str) -> None:
    described = MECHANISMS[name]()
    checks.check_config(described, CheckSize(16, 4, (4, 5)))
    assert attention_config(name) == described
    with pytest.raises(dataclasses.FrozenInstanceError):
        described.eps = 1.0  # type: ignore[attr-defined]
    with pytest.raises(GossamerError) as caught:
        attention_config({"name": name, "epsilom": 1})
    assert caught.value.code is ErrorCode.CONFIG
    assert "epsilom" in caught.value.problem


@every_mechanism
def test_wrong_grids_and_heads_are_refused(name: str) -> None:
    checks.check_refusals(MECHANISMS[name](), CheckSize(12, 2, (3, 5)))


@every_mechanism
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite(name: str, dtype: torch.dtype) -> None:
    checks.check_half_precision(MECHANISMS[name](), CheckSize(16, 2, (32, 32)), dtype)


@every_mechanism
def test_onnx_runtime_equals_eager_on_another_batch_and_grid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The run-time checks of shapes are Python that an exporter cannot trace.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    checks.check_export(MECHANISMS[name](), CheckSize(16, 4, (4, 6)), (9, 6))
