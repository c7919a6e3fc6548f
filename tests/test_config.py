"""JSON to a configuration: what is wrong is one short line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError


@dataclass(frozen=True, kw_only=True)
class Part:
    count: int


@dataclass(frozen=True, kw_only=True)
class Whole:
    part: Part
    steps: list[dict[str, Any]]
    kind: Literal["slow", "quick"] = "slow"


GOOD: dict[str, Any] = {"part": {"count": 3}, "steps": [{"name": "pad"}], "kind": "quick"}


def test_what_is_written_is_read() -> None:
    whole = config.from_json(Whole, GOOD, "here")
    assert whole == Whole(part=Part(count=3), steps=[{"name": "pad"}], kind="quick")
    assert config.from_json(Whole, config.to_json(whole), "here") == whole


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"part": {"count": 3}, "kind": "slow"}, "here: steps is missing; add it"),
        (GOOD | {"part": {}}, "here: part.count is missing; add it"),
        (GOOD | {"kind": "quik"}, "here: kind 'quik' is not known; use one of slow, quick"),
        (GOOD | {"knd": "slow"}, "here: unknown key 'knd'; did you mean kind?"),
        (GOOD | {"steps": 3}, "here: steps 3: Input should be a valid list; give list[dict[str, Any]]"),
        (
            GOOD | {"part": {"count": "x" * 500}},
            f"here: part.count '{'x' * 56}...: Input should be a valid integer, unable to parse string as an integer; "
            "correct the value",
        ),
        (3, "here: expected a mapping, got int; write keys and values"),
    ],
)
def test_a_fault_is_named_with_the_value_that_was_met(values: Any, text: str) -> None:
    with pytest.raises(GossamerError) as caught:
        config.from_json(Whole, values, "here")
    assert caught.value.code is ErrorCode.CONFIG
    assert str(caught.value) == f"E-CONFIG: {text}"
