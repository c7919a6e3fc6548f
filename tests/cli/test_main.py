"""The entry point: options are named as they were typed, help is clean, completion can be installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.cli.main import VERBS, name_option, read_summary, run
from gossamer.errors import ErrorCode, GossamerError
from gossamer.summary import SummaryTable


def test_parameter_of_a_function_is_named_as_its_option() -> None:
    error = GossamerError(ErrorCode.CONFIG, "image_size", "0 is not a size", "use 224x224")
    assert name_option(error, ["train", "data"]).where == "--image-size"
    assert name_option(error, ["doctor"]).where == "image_size"
    assert name_option(error, []).where == "image_size"


def test_file_keeps_its_name_in_an_error() -> None:
    error = GossamerError(ErrorCode.MISSING, "out/data.npz", "no such file", "check the path")
    assert name_option(error, ["train"]) is error


def test_json_names_the_option(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["predict", str(tmp_path), "--threads", "0", "--json"]) == 78
    assert json.loads(capsys.readouterr().out)["error"]["where"] == "--threads"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_fits_80_columns_and_wraps_only_at_the_border(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([verb, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(read_summary(VERBS[verb]).split()) in " ".join(" ".join(lines).split())


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    command = [sys.executable, "-m", "gossamer", "--install-completion"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    written = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert "quantize" in written
    assert "--max-drop" in written


def test_verbs_that_need_pytorch_say_so_without_it(tmp_path: Path) -> None:
    commands = [
        ["train", "data"],
        ["plan", "data"],
        ["compare", "data"],
        ["export", "run", "--out", "new"],
        ["quantize", "run", "--out", "new"],
        ["profile", "vit_tiny"],
        ["models"],
        ["import-weights", "file", "--out", "new"],
        ["check-attention", "kv"],
        ["demo", "--out", "new"],
    ]
    code = (
        "import sys; sys.modules['torch'] = None\n"  # as if it were not installed
        "from gossamer.cli.main import run\n"
        f"print([run(command) for command in {commands!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [78] * len(commands)
    assert [line.split(": ")[1:3] for line in done.stderr.splitlines()] == [
        ["E-CODEC", f"gossamer {command[0]}"] for command in commands
    ]
    assert list(tmp_path.iterdir()) == []


def test_only_numbers_below_a_heading_are_aligned_to_the_right() -> None:
    rows = (("sizes", "8x10 (12)"), ("note", "0"))
    assert SummaryTable("", ("", ""), rows).to_text() == "sizes  8x10 (12)\nnote   0"
    assert SummaryTable("", ("a", "b"), rows).to_text() == "a              b\nsizes  8x10 (12)\nnote           0"
