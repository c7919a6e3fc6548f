"""``gossamer compare`` as a whole: real trainings on a small phantom, killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.main import run

OPTIONS = [
    "--models", "vit_nano", "--attention", "softmax,kv", "--epochs", "2", "--seeds", "1", "--threads", "1",
    "--precisions", "torch",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 60 images of 24x28 pixels."""
    from gossamer.data.synthetic.phantom import write_phantom

    return write_phantom(tmp_path_factory.mktemp("compare") / "chest", count=60, size=(24, 28))


def start(data: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gossamer", "compare", str(data), *OPTIONS, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_an_epoch(out: Path, process: subprocess.Popen[str], trial: str) -> None:
    end = time.monotonic() + 240
    while not (out / "cells" / trial / "run" / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def read_results(out: Path) -> dict[str, Any]:
    """Return the results of all trainings that do not depend on the clock."""
    found: dict[str, Any] = {}
    for trial in sorted((out / "cells").iterdir()):
        summary = json.loads((trial / "run" / "summary.json").read_text())
        predictions = (trial / "run" / "predictions.csv").read_text()
        with (trial / "run" / "metrics.csv").open() as file:
            history = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
        found[trial.name] = (summary["metrics"], predictions, history)
    return found


def test_plan_writes_nothing(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(phantom.rglob("*"))
    assert run(["compare", str(phantom), *OPTIONS, "--out", str(tmp_path / "out"), "--plan"]) == 0
    text = capsys.readouterr().out
    assert "2 epochs of 16x16 px" in text
    assert "vit_nano with kv" in text
    assert "2 trainings, 1 of each variant" in text
    assert not (tmp_path / "out").exists()
    assert sorted(phantom.rglob("*")) == before


def test_folder_must_be_given_and_be_a_comparison(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", str(phantom), *OPTIONS]) == 78
    assert "--out: " in capsys.readouterr().err
    (tmp_path / "thesis.txt").touch()
    assert run(["compare", str(phantom), *OPTIONS, "--out", str(tmp_path)]) == 73
    assert capsys.readouterr().err.startswith("gossamer: E-OUTPUT")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("data", "arguments", "status", "where"),
    [
        ("nothing", ["--models", "vit_nano"], 66, "nothing"),
        (None, ["--models", "vit_nanoo"], 78, "model"),
        (None, ["--models", ""], 78, "--models"),
        (None, ["--precisions", ","], 78, "--precisions"),
        (None, ["--epochs", "1.5"], 78, "--epochs"),
        (None, ["--seeds", "two"], 78, "--seeds"),
        (None, ["--max-drop", "nan"], 78, "--max-drop"),
        (None, ["--max-latency-ms", "0"], 78, "--max-latency-ms"),
        (None, ["--image-size", "big"], 78, "--image-size"),
    ],
)
def test_refused_call_leaves_nothing(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str | None, arguments: list[str],
    status: int, where: str,
) -> None:  # fmt: skip
    given = str(phantom if data is None else tmp_path / data)
    there = tmp_path / "there"
    there.mkdir()
    for out in (tmp_path / "deep" / "er" / "out", there):
        assert run(["compare", given, *arguments, "--threads", "1", "--out", str(out), "--json"]) == status
        assert json.loads(capsys.readouterr().out)["error"]["where"].endswith(where)
    assert sorted(tmp_path.rglob("*")) == [there]


def test_plan_lists_stages(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--models", "vit_nano", "--attention", "kv", "--epochs", "1", "--seeds", "1", "--threads", "1"]
    assert run(["compare", str(phantom), *options, "--precisions", "torch,float32", "--plan"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "1 epoch of 16x16 px in batches of" in text
    assert ", 1 thread " in text
    assert "1 training, 1 of each variant" in text
    assert text.endswith("with export and measuring")
    assert "6 patients" in text


@pytest.mark.slow
def test_killed_and_stopped_comparison_ends_with_the_same_table(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(["compare", str(data), *OPTIONS, "--out", str(whole), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["complete"]
    assert len(summary["kinds"]) == 2

    killed = start(data, broken)
    wait_for_an_epoch(broken, killed, "vit_nano-softmax-0")
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    stopped = start(data, broken)
    wait_for_an_epoch(broken, stopped, "vit_nano-kv-0")
    stopped.send_signal(signal.SIGTERM)
    _, said = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM, said
    assert f"resume with: gossamer compare {data}" in said
    assert (broken / "report.html").exists()
    ended = start(data, broken)
    _, said = ended.communicate()
    assert ended.returncode == 0, said
    assert read_results(broken) == read_results(whole)
    for out in (whole, broken):
        measured = json.loads((out / "measured" / "vit_nano-kv.json").read_text())
        assert measured["precisions"]["torch"]["latency_p50"]["how"] == "measured"
        assert measured["network"]["macs"]["value"] < 1e8
        assert [point["image_size"] for point in measured["growth"]] == [[24, 28], [48, 56], [96, 112]]

    # Other options are refused, other limits are not; nothing is done twice.
    assert run(["compare", str(data), *OPTIONS[:-4], "--threads", "1", "--out", str(whole)]) == 78
    assert "--precisions torch, now torch,float32,int8" in capsys.readouterr().err
    assert run(["compare", str(data), *OPTIONS, "--out", str(whole), "--max-latency-ms", "0.001"]) == 0
    text = capsys.readouterr()
    assert "train" not in text.err
    assert json.loads((whole / "summary.json").read_text())["recommendation"]["chosen"] is None

    # A training that fails is a row with its reason, and the others stay.
    trial = broken / "cells" / "vit_nano-kv-0"
    shutil.rmtree(trial)
    (broken / "measured" / "vit_nano-kv.json").unlink()
    trial.mkdir()
    (trial / "run").write_text("in the way")
    assert run(["compare", str(data), *OPTIONS, "--out", str(broken), "--json"]) == 0
    text = capsys.readouterr()
    assert "[2/3] train vit_nano with kv, seed 0: failed: E-OUTPUT" in text.err
    assert not (broken / "measured" / "vit_nano-kv.json").exists()
    assert "E-OUTPUT" in (broken / "report.html").read_text()
    assert (trial / "run").read_text() == "in the way"
