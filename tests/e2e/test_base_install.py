"""The base installation, in an environment of its own: no torch, small, able to look at data and to run bundles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.cli.main import run
from made_bundles import contents, write_classifier, write_inputs, write_segmenter

ROOT = Path(__file__).parents[2]
MOST_BYTES = 250 * 2**20


@pytest.mark.network
def test_the_base_installs_without_torch_reads_data_and_runs_bundles(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    install = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", str(ROOT / "requirements.lock"), str(ROOT)], check=True)

    def gossamer(*arguments: str, status: int = 0) -> str:
        finished = subprocess.run([str(binaries / "gossamer"), *arguments], capture_output=True, text=True, check=False)
        assert finished.returncode == status, finished.stderr
        return finished.stdout + finished.stderr

    assert "train" in gossamer("--help")
    gossamer("data", "phantom", str(tmp_path / "data"), "--count", "24", "--image-size", "16x16")
    assert json.loads(gossamer("data", "check", str(tmp_path / "data"), "--json"))["ok"]
    packages = json.loads(gossamer("doctor", "--json"))["packages"]
    assert packages["torch"] is None
    assert 'pip install "gossamer[train]"' in gossamer("train", str(tmp_path / "data"), status=78)
    pictures, volumes = write_inputs(tmp_path)
    classifier, segmenter = write_classifier(tmp_path / "classifier"), write_segmenter(tmp_path / "segmenter", stack=3)
    for bundle, inputs, name in ((classifier, pictures, "classes.csv"), (segmenter, volumes, "masks")):
        options = ("predict", str(bundle), str(inputs), "--threads", "1", "--out")
        gossamer(*options, str(tmp_path / f"base-{name}"))
        assert run([*options, str(tmp_path / f"here-{name}")]) == 0
        assert contents(tmp_path / f"base-{name}") == contents(tmp_path / f"here-{name}")
    assert "openvino" in gossamer("predict", str(classifier), str(pictures), "--engine", "openvino", status=78)
    assert 'pip install "gossamer[train]"' in gossamer("evaluate", str(classifier), str(tmp_path / "data"), status=78)
    size = sum(
        path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert size < MOST_BYTES
