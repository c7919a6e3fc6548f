"""The command line, a script and a notebook give the same weights with the same options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import gossamer
from gossamer.cli.main import run
from gossamer.files import sha256_hexdigest

TRAIN = """\
import gossamer
run = gossamer.train(
    {data!r}, model="vit_nano", attention="sequence_norm", epochs=1, batch_size=16, seed=3, threads=1, out={out!r}
)
"""


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "chest"
    gossamer.draw_phantom(folder, count=60, image_size=(32, 32))
    return folder


@pytest.fixture(scope="module")
def weights(chest: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("runs") / "command"
    options = ["--model", "vit_nano", "--attention", "sequence_norm", "--epochs", "1", "--batch-size", "16"]
    assert run(["train", str(chest), *options, "--seed", "3", "--threads", "1", "--out", str(out)]) == 0
    return digest(out)


def digest(folder: Path) -> str:
    return sha256_hexdigest((folder / "model.safetensors").read_bytes())


@pytest.mark.slow
def test_script_gives_the_weights_of_the_command_line(chest: Path, weights: str, tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "run"
    script.write_text(TRAIN.format(data=str(chest), out=str(out)))
    finished = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=600)
    assert (finished.stdout, finished.stderr) == ("", "")
    assert digest(out) == weights


@pytest.mark.slow
def test_notebook_gives_the_weights_of_the_command_line(chest: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = TRAIN.format(data=str(chest), out=str(out))
    cells = [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("run")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert digest(out) == weights
    assert notebook.cells[0].outputs == []
    (shown,) = notebook.cells[1].outputs
    assert "<table>" in shown["data"]["text/html"]
    assert "AUROC" in shown["data"]["text/plain"]
