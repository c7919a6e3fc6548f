"""Runs of version 0.1.0: they resume, and their configs give their weights again, bit for bit."""

from __future__ import annotations

import csv
import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import gossamer
from gossamer.files import sha256_hexdigest
from gossamer.training.run_folder import RunFolder

OLD = Path(__file__).parents[1] / "data" / "compat010"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the data and the runs of version 0.1.0, whose configs hold relative paths."""
    for name in ("torch", "numpy", "lightning", "monai"):
        made_with = EXPECTED["machine"]["packages"][name]
        if metadata.version(name) != made_with:
            pytest.skip(f"weights are equal bit for bit with {name} {made_with} only")
    shutil.copytree(OLD, tmp_path / "old", ignore=shutil.ignore_patterns("comparison*", "*bundle*"))
    monkeypatch.chdir(tmp_path / "old")
    monkeypatch.setattr("gossamer.profiling.network.measure_peak_memory", lambda *_, **__: None)
    return tmp_path / "old"


def read_history(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_a_stopped_run_resumes_bit_for_bit(folder: Path) -> None:
    expected = EXPECTED["artefacts"]["classification_stopped"]["resumed"]
    run = gossamer.train(resume="classification_stopped")
    assert sha256_hexdigest((run.path / "model.safetensors").read_bytes()) == expected["model_sha256"]
    assert read_history(run.path) == expected["history"]
    assert run.metrics["auroc"].value == pytest.approx(expected["metrics"]["auroc"]["value"])


@pytest.mark.parametrize("name", ["classification_run", "multi_label_run", "segmentation_run", "volumes_run"])
def test_the_config_of_a_run_gives_its_weights(folder: Path, name: str) -> None:
    expected = EXPECTED["artefacts"][name]
    run = gossamer.train(expected["data"], config=f"{name}/config.yaml", out="again", threads=1)
    assert sha256_hexdigest((run.path / "model.safetensors").read_bytes()) == expected["model_sha256"]
    assert read_history(run.path) == expected["history"]
    assert run.config == RunFolder(Path(name)).read_config()
