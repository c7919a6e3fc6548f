"""Comparisons of version 0.1.0 open, render and resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import gossamer
from gossamer.comparison.compare_plan import read_plan
from gossamer.comparison.folder import CompareFolder
from gossamer.report.comparison_page import write_results

STORED = Path(__file__).parents[1] / "data" / "compat010"
EXPECTED = json.loads((STORED / "expected.json").read_text())["artefacts"]
OPTIONS: dict[str, Any] = {
    "models": "vit_nano", "attention": "softmax,sequence_norm", "seeds": 1, "image_size": "28x28", "batch_size": 8,
    "max_drop": 1.0, "threads": 1,
}  # fmt: skip


def copy_comparison(name: str, path: Path) -> CompareFolder:
    return CompareFolder(Path(shutil.copytree(STORED / name, path / name)))


@pytest.mark.parametrize("name", ["comparison", "comparison_stopped"])
def test_plan_keeps_its_keys_and_values(name: str) -> None:
    path = STORED / name / "plan.json"
    assert read_plan(path).to_json() == json.loads(path.read_text())


def test_finished_comparison_renders_the_same_results(tmp_path: Path) -> None:
    folder = copy_comparison("comparison", tmp_path)
    before = json.loads(folder.summary_path.read_text())
    table = folder.table_path.read_text()
    results = write_results(folder)
    assert results.complete
    assert folder.table_path.read_text() == table
    assert folder.report_path.exists()
    after = json.loads(folder.summary_path.read_text())
    assert after["kinds"] == before["kinds"]
    for key in ("chosen", "best", "loss", "alike"):
        assert after["recommendation"][key] == before["recommendation"][key]
    assert {key: after[key] for key in before if key not in ("gossamer", "recommendation", "kinds", "notes")} == {
        key: before[key] for key in before if key not in ("gossamer", "recommendation", "kinds", "notes")
    }


def test_finished_comparison_is_accepted_by_a_second_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_comparison("comparison", tmp_path)
    monkeypatch.chdir(STORED)
    found = gossamer.compare("data/classification", folder.path, epochs=1, max_latency_ms=1e6, **OPTIONS)
    assert found.to_dict()["complete"]
    assert found.results.plan.limits.latency_ms == 1e6
    assert not list(folder.path.rglob("*outcome.json"))
    with pytest.raises(gossamer.GossamerError):
        gossamer.compare("data/classification", folder.path, epochs=2, **OPTIONS)


@pytest.mark.slow
def test_stopped_comparison_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_comparison("comparison_stopped", tmp_path)
    monkeypatch.chdir(STORED)
    options = {**OPTIONS, "epochs": 12, "precisions": "torch,float32"}
    summary = gossamer.compare("data/classification", folder.path, **options).to_dict()
    assert summary["complete"]
    expected = EXPECTED["comparison_stopped"]["resumed"]["summary"]
    for kind, wanted in zip(summary["kinds"], expected["kinds"], strict=True):
        assert kind["quality"]["value"] == pytest.approx(wanted["quality"]["value"], abs=0.02)
        assert kind["cells"][0]["best_epoch"] == wanted["cells"][0]["best_epoch"]
