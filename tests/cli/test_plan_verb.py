"""``gossamer plan`` through the command line: what it lists, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.main import run
from gossamer.planning.benchmark import BenchmarkResult
from gossamer.profiling.figure import Figure

FEW = ["--models", "vit_nano", "--attention", "kv,softmax", "--threads", "1", "--engine", "onnxruntime"]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_without_time_everything_is_forecast(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, str(phantom), "--max-latency-ms", "1e6", "--budget-minutes", "0", *FEW)
    assert found["candidates"] == 6
    assert (found["measured"], found["timed"]) == (0, 0)
    assert {row["precision"] for row in found["rows"]} == {"torch"}
    assert {row["latency"]["how"] for row in found["rows"]} == {"modelled"}
    assert {row["meets"] for row in found["rows"]} == {"perhaps"}
    assert found["machine_was_busy"] is False
    macs = [row["macs"] for row in found["rows"]]
    assert macs == sorted(macs, reverse=True)
    assert found["nearest"] is None


def test_a_forecast_is_no_answer_and_is_said_to_be_none(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(phantom), "--max-latency-ms", "1e6", "--budget-minutes", "0", *FEW]) == 0
    shown, said = capsys.readouterr()
    words = " ".join(shown.split())
    assert "Perhaps, by forecast alone" in words
    assert "Meet the limits" not in words
    assert "0 meet the limits as measured, 6 perhaps, by forecast" in words
    assert "6 networks and sizes, none is measured" in said


def test_a_busy_machine_is_named(
    phantom: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gossamer.planning.feasible as feasible

    unknown = Figure(None, "bytes", "unavailable", "not measured")
    slow = Figure(7.0, "ms", "measured", "given")
    taken = BenchmarkResult(
        precision="torch", engine="torch", latency_p50=slow, latency_p95=slow, peak_memory=unknown, busy=True
    )
    monkeypatch.setattr(feasible, "time_network", lambda candidate: taken)
    monkeypatch.setattr(feasible, "measure_candidate", lambda candidate, **_: [taken])
    few = [*FEW, "--image-sizes", "16x24"]
    assert run(["plan", str(phantom), "--max-latency-ms", "1e6", *few]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "The machine was busy while networks were timed: times are upper bounds" in words
    assert "Meet the limits, measured" in words


def test_nothing_meets_an_impossible_limit(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(phantom), "--max-memory-mb", "20", "--image-sizes", "16x24", "--budget-minutes", "0", *FEW]
    found = answer(capsys, *arguments)
    if found["nearest"] is None:  # memory cannot be read here
        assert {row["meets"] for row in found["rows"]} == {"unavailable"}
        return
    assert found["nearest"]["image_size"] == [16, 24]
    assert run(["plan", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "Nothing meets the limits. Nearest is vit_nano with " in shown
    assert "by forecast" in shown


def test_a_small_network_is_measured(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Long enough to begin with one network, too short for a second.
    arguments = ["--max-latency-ms", "1e5", "--image-sizes", "16x24", "--budget-minutes", "0.01", *FEW]
    assert run(["plan", str(phantom), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "Limits: 100000 ms an image, 1 thread" in shown
    assert "nothing is said about quality: gossamer compare" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--max-latency-ms, --max-memory-mb or both"),
        (["--max-latency-ms", "0"], "latency"),
        (["--max-latency-ms", "inf"], "--max-latency-ms: 'inf' is not a finite number; give one, such as 20"),
        (["--max-memory-mb", "nan"], "--max-memory-mb: 'nan' is not a finite number"),
        (["--max-latency-ms", "abc"], "--max-latency-ms: 'abc' is not a finite number; give one"),
        (["--max-latency-ms", "9", "--models", "vit_nono"], "vit_nono"),
        (["--max-latency-ms", "9", "--models", "vit_nono"], "near it are vit_nano, "),
        (["--max-latency-ms", "9", "--models", "cvt_small"], "cvt_small is a network to segment"),
        (["--max-latency-ms", "9", "--attention", "hard"], "hard"),
        (["--max-latency-ms", "9", "--engine", "tensorflow"], "there is no engine 'tensorflow'"),
        (["--max-latency-ms", "9", "--image-sizes", "big"], "--image-sizes: 'big'"),
        (["--max-latency-ms", "9", "--budget-minutes", "-1"], "--budget-minutes: -1 is less than 0; use 5, or 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    phantom: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["plan", str(phantom), *arguments]) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_data_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(tmp_path / "nowhere"), "--max-latency-ms", "9"]) == 66
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
