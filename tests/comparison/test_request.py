"""What a user asks of a comparison, and whether it is what was asked before."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from gossamer import config
from gossamer.comparison.request import CompareRequest, parse_names
from gossamer.errors import GossamerError
from gossamer.variants import CostLimits

ASKED = CompareRequest(data="chest", models=("vit_nano",), seeds=2, image_size=(24, 28), threads=1)


def test_commas_inside_of_braces_belong_to_json() -> None:
    assert parse_names('softmax, {"name": "soft", "inverse": "cholesky"},kv,') == (
        "softmax", '{"name": "soft", "inverse": "cholesky"}', "kv",
    )  # fmt: skip


def test_a_list_that_must_name_something_says_so() -> None:
    assert parse_names(" , ") == ()
    with pytest.raises(GossamerError, match="--models: ' , ' names nothing"):
        parse_names(" , ", "--models")


@pytest.mark.parametrize("limit", [0.0, -3.0, math.nan, math.inf])
def test_limits_are_named_as_they_are_typed(limit: float) -> None:
    with pytest.raises(GossamerError, match=r"max_latency_ms: .* is not positive"):
        CostLimits(latency_ms=limit)
    with pytest.raises(GossamerError, match="max_memory_mb"):
        CostLimits(memory_mb=limit)


def test_the_same_again_is_accepted_with_other_limits_and_at_another_place() -> None:
    again = dataclasses.replace(ASKED, limits=CostLimits(latency_ms=5), data="elsewhere/chest")
    read = config.from_json(CompareRequest, config.to_json(ASKED), "plan.json")
    assert read == ASKED
    again.require_same(read, Path("out"))


def test_every_difference_is_named() -> None:
    other = dataclasses.replace(ASKED, epochs=7, attention=("softmax", "sima"), image_size=None)
    with pytest.raises(GossamerError, match="--attention softmax,sequence_norm,kv, now softmax,sima") as error:
        other.require_same(ASKED, Path("out"))
    assert "--epochs left out, now 7" in str(error.value)
    assert "--image-size 24,28, now left out" in str(error.value)
    assert "--seeds" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": 0}, "--seeds: 0 is not above 0"),
        ({"budget_minutes": -1.0}, "--budget-minutes: -1.0"),
        ({"budget_minutes": 3.0, "epochs": 2}, "and --epochs both"),
        ({"attention": ("kv", "kv")}, "kv is named twice"),
        ({"precisions": ("torch", "int4")}, "there is no 'int4'"),
        ({"precisions": ()}, "--precisions: names nothing"),
        ({"attention": ()}, "--attention: names nothing"),
        ({"max_drop": -1.0}, "--max-drop: -1.0 is no drop"),
        ({"max_drop": math.nan}, "--max-drop: nan is no drop"),
        ({"budget_minutes": math.inf}, "--budget-minutes: inf"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(GossamerError, match=words):
        dataclasses.replace(ASKED, **changes)
