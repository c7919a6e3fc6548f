"""The base installation, in an environment of its own: no torch, small, and able to look at data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 250 * 2**20


@pytest.mark.network
def test_the_base_installs_without_torch_and_reads_data(tmp_path: Path) -> None:
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
    size = sum(
        path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert size < MOST_BYTES
