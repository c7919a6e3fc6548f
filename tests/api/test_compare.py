"""``gossamer.compare`` and ``gossamer.plan`` as functions of Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import gossamer
from gossamer.comparison import planner
from gossamer.comparison.compare_plan import ComparePlan, read_plan, write_plan
from gossamer.comparison.fingerprint import resume_plan
from gossamer.comparison.folder import CompareFolder
from gossamer.comparison.forecast import TimedSteps
from gossamer.errors import ErrorCode
from gossamer.files import sha256_hexdigest
from gossamer.nn.attention import attention_text

MECHANISM = """
from dataclasses import dataclass
from typing import ClassVar

from gossamer.nn.attention.softmax import SoftmaxConfig


@dataclass(frozen=True)
class MyConfig(SoftmaxConfig):
    name: ClassVar[str] = "mine"
"""
OPTIONS = {"models": "vit_nano", "epochs": 1, "seeds": 1, "threads": 1}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is timed."""
    timed = TimedSteps(step_s=0.1, image_s=0.1, steps=2, validated=10, memory_bytes=None, parameters=1000)
    monkeypatch.setattr(planner, "time_training_steps", lambda run, dataset, *, base_bytes: timed)


def create_plan(phantom: Path, mechanism: Path) -> ComparePlan:
    attention = ("softmax", f"{mechanism}:MyConfig")
    return gossamer.plan_comparison(phantom, attention=attention, **OPTIONS).plan


@pytest.fixture
def mechanism(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MECHANISM)
    return file


def test_plan_of_a_comparison_shows_itself(phantom: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = gossamer.plan_comparison(phantom, attention=("softmax", "kv"), precisions=("torch",), **OPTIONS)
    assert capsys.readouterr() == ("", "")
    assert "vit_nano with kv" in repr(found)
    assert found.to_dict()["seconds"] == found.seconds > 0
    assert found.plan.data.source == str(phantom)


def test_mechanism_of_a_user_is_compared(phantom: Path, quick: None, mechanism: Path, tmp_path: Path) -> None:
    plan = create_plan(phantom, mechanism)
    assert [variant.name for variant in plan.variants] == ["vit_nano with softmax", "vit_nano with mine.py:MyConfig"]
    assert plan.mechanism_hashes == {attention_text(f"{mechanism}:MyConfig"): sha256_hexdigest(mechanism.read_bytes())}
    folder = CompareFolder(tmp_path / "out")
    folder.path.mkdir()
    write_plan(folder, plan)
    assert read_plan(folder.plan_path) == plan
    assert resume_plan(plan, plan.request, plan.command, folder.path) == plan


def test_changed_mechanism_stops_a_resumed_comparison(
    phantom: Path, quick: None, mechanism: Path, tmp_path: Path
) -> None:
    plan = create_plan(phantom, mechanism)
    changed = dataclasses.replace(plan, mechanism_hashes={f"{mechanism}:MyConfig": "0" * 64})
    with pytest.raises(gossamer.GossamerError) as error:
        resume_plan(changed, plan.request, "", tmp_path)
    assert error.value.code is ErrorCode.INTEGRITY


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, "out"),
        ({"seeds": 0}, "seeds"),
        ({"image_size": "big"}, "image_size"),
        ({"max_memory_mb": -1}, "max_memory_mb"),
        ({"threads": 0}, "threads"),
    ],
)
def test_wrong_options_raise_and_print_nothing(
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(gossamer.GossamerError) as error:
        gossamer.compare(phantom, tmp_path / "out" if options else None, **options)
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, where)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_plan_shows_itself(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"models": ["vit_nano"], "attention": ["kv"], "image_sizes": [(16, 24)], "threads": 1}
    found = gossamer.plan(phantom, max_latency_ms=1e6, budget_minutes=0, engine="onnxruntime", **options)
    assert capsys.readouterr() == ("", "")
    (row,) = found.rows
    assert row.estimated.candidate.image_size == (16, 24)
    assert "vit_nano" in repr(found)
    assert found.to_dict()["rows"][0]["meets"] == "perhaps"
