"""The options of a comparison, and whether they are those of an earlier call."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest

from gossamer import config
from gossamer.comparison.request import CompareRequest, name_mechanisms, parse_names
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import sha256_hexdigest
from gossamer.nn.attention import SoftConfig, SoftmaxConfig
from gossamer.variants import CostLimits, Variant

LINEAR = Path(__file__).parents[1] / "made_mechanisms" / "linear.py"
REQUEST = CompareRequest(data="chest", models=("vit_nano",), seeds=2, image_size=(24, 28), threads=1)


def test_commas_inside_of_braces_belong_to_json() -> None:
    assert parse_names('softmax, {"name": "soft", "inverse": "cholesky"},kv,') == (
        "softmax", '{"name": "soft", "inverse": "cholesky"}', "kv",
    )  # fmt: skip


def test_an_empty_list_is_refused_if_it_must_name_something() -> None:
    assert parse_names(" , ") == ()
    with pytest.raises(GossamerError) as error:
        parse_names(" , ", "models")
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, "models")


def test_mechanisms_are_named_as_text() -> None:
    named = name_mechanisms(("kv", SoftmaxConfig(), SoftmaxConfig, SoftConfig(inverse="cholesky")))
    assert named[:3] == ("kv", "softmax", "softmax")
    assert '"cholesky"' in named[3]


def test_mechanisms_of_users_are_named_by_path_and_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LINEAR.parent)
    softmax, linear = name_mechanisms("softmax,./linear.py:LinearConfig")
    assert softmax == "softmax"
    data = json.loads(linear)
    assert data["name"] == f"{LINEAR.resolve()}:LinearConfig"
    assert data["sha256"] == sha256_hexdigest(LINEAR.read_bytes())
    assert name_mechanisms(linear) == (linear,)
    with pytest.raises(GossamerError) as error:
        name_mechanisms("softmax,./absent.py:LinearConfig")
    assert error.value.code is ErrorCode.MISSING


def test_variants_of_users_are_shown_without_folders() -> None:
    (linear,) = name_mechanisms(f"{LINEAR}:LinearConfig")
    variant = Variant(model="vit_nano", attention=linear)
    assert variant.name == "vit_nano with linear.py:LinearConfig"
    assert str(LINEAR.parent) not in variant.name + variant.key
    other = Variant(model="vit_nano", attention=linear.replace(str(LINEAR.parent), "/elsewhere"))
    assert other.name == variant.name
    assert other.key != variant.key
    assert Variant(model="vit_nano", attention="kv").key == "vit_nano-kv"


@pytest.mark.parametrize("limit", [0.0, -3.0, math.nan, math.inf])
def test_limits_are_positive_and_finite(limit: float) -> None:
    for name in ("latency_ms", "memory_mb"):
        with pytest.raises(GossamerError) as error:
            CostLimits(**{name: limit})
        assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, f"max_{name}")


def test_other_limits_and_another_path_are_accepted() -> None:
    again = dataclasses.replace(REQUEST, limits=CostLimits(latency_ms=5), data="elsewhere/chest")
    read = config.from_json(CompareRequest, config.to_json(REQUEST), "plan.json")
    assert read == REQUEST
    again.require_same(read, Path("out"))


def test_every_difference_is_named() -> None:
    other = dataclasses.replace(REQUEST, epochs=7, attention=("softmax", "sima"), image_size=None)
    with pytest.raises(GossamerError) as error:
        other.require_same(REQUEST, Path("out"))
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, "out")
    assert "--attention softmax,sequence_norm,kv, now softmax,sima" in error.value.problem
    assert "--epochs default, now 7" in error.value.problem
    assert "--image-size 24,28, now default" in error.value.problem
    assert "--seeds" not in error.value.problem


def test_command_repeats_the_options_that_are_not_defaults() -> None:
    request = dataclasses.replace(REQUEST, limits=CostLimits(latency_ms=5.0), attention=("softmax", '{"name": "soft"}'))
    words = shlex.split(request.to_command(Path("my out")))
    assert words[:3] == ["gossamer", "compare", "chest"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {
        "--models": "vit_nano", "--attention": 'softmax,{"name": "soft"}', "--seeds": "2", "--image-size": "24x28",
        "--threads": "1", "--max-latency-ms": "5.0", "--out": "my out",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"seeds": 0}, "seeds"),
        ({"budget_minutes": -1.0}, "budget_minutes"),
        ({"budget_minutes": 3.0, "epochs": 2}, "budget_minutes"),
        ({"attention": ("kv", "kv")}, "attention"),
        ({"precisions": ("torch", "int4")}, "precisions"),
        ({"precisions": ()}, "precisions"),
        ({"attention": ()}, "attention"),
        ({"max_drop": -1.0}, "max_drop"),
        ({"max_drop": math.nan}, "max_drop"),
        ({"budget_minutes": math.inf}, "budget_minutes"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(GossamerError) as error:
        dataclasses.replace(REQUEST, **changes)
    assert error.value.code is ErrorCode.CONFIG
    assert error.value.where.removeprefix("--").replace("-", "_") == where
