"""Shared by all tests: one thread, shapes checked at run time, and small data that every test may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")

with install_import_hook("gossamer.nn", "beartype.beartype"):
    import gossamer.nn.models  # noqa: F401

import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Verbs that run in this process set the number of threads; every test starts with one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 60 images of 16x16 pixels, with patients and splits; do not write into it."""
    from gossamer.data.synthetic.phantom import write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom") / "chest", count=60, size=(16, 16))


@pytest.fixture(scope="session")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small network that was trained on ``phantom``; do not write into it."""
    from gossamer.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "trained"
    arguments = ["--model", "vit_nano", "--epochs", "2", "--precision", "float32", "--threads", "1"]
    assert run(["train", str(phantom), "--out", str(folder), *arguments]) == 0
    return folder
