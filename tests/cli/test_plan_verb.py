"""``gossamer plan`` through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.main import run
from gossamer.planning.benchmark import BenchmarkResult
from gossamer.profiling.figure import Figure

FEW = ["--models", "vit_nano", "--attention", "kv,softmax", "--threads", "1", "--engine", "onnxruntime"]


def run_plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_everything_is_estimated_without_time(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_plan(capsys, str(phantom), "--max-latency-ms", "1e6", "--budget-minutes", "0", *FEW)
    assert found["candidates"] == 6
    assert (found["measured"], found["timed"]) == (0, 0)
    assert {row["precision"] for row in found["rows"]} == {"torch"}
    assert {row["latency"]["how"] for row in found["rows"]} == {"modelled"}
    assert {row["meets"] for row in found["rows"]} == {"perhaps"}
    assert found["machine_was_busy"] is False
    macs = [row["macs"] for row in found["rows"]]
    assert macs == sorted(macs, reverse=True)
    assert found["nearest"] is None


def test_estimates_are_marked_as_uncertain(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(phantom), "--max-latency-ms", "1e6", "--budget-minutes", "0", *FEW]) == 0
    shown, progress = capsys.readouterr()
    text = " ".join(shown.split())
    assert "0 within budget, 6 may fit, 0 over, 0 unknown" in text
    assert "~" in text
    assert "6 networks and sizes" in progress


def test_busy_machine_is_noted(
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
    text = " ".join(capsys.readouterr().out.split())
    assert "of 2 completely" in text
    assert "upper bounds" in text
    assert run_plan(capsys, str(phantom), "--max-latency-ms", "1e6", *few)["machine_was_busy"] is True


def test_nothing_is_within_an_impossible_budget(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(phantom), "--max-memory-mb", "20", "--image-sizes", "16x24", "--budget-minutes", "0", *FEW]
    found = run_plan(capsys, *arguments)
    if found["nearest"] is None:
        assert {row["meets"] for row in found["rows"]} == {"unavailable"}
        pytest.skip("memory of a process cannot be read on this machine")
    assert found["nearest"]["image_size"] == [16, 24]
    assert run(["plan", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "closest is vit_nano with " in " ".join(shown.split())


def test_a_small_network_is_measured(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Long enough to begin with one network, too short for a second.
    arguments = ["--max-latency-ms", "1e5", "--image-sizes", "16x24", "--budget-minutes", "0.01", *FEW]
    assert run(["plan", str(phantom), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "100000 ms per image, 1 thread" in shown
    assert "gossamer compare" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ([], "gossamer plan"),
        (["--max-latency-ms", "0"], "--max-latency-ms"),
        (["--max-latency-ms", "inf"], "--max-latency-ms"),
        (["--max-memory-mb", "nan"], "--max-memory-mb"),
        (["--max-latency-ms", "abc"], "--max-latency-ms"),
        (["--max-latency-ms", "9", "--models", "vit_nono"], "--models"),
        (["--max-latency-ms", "9", "--models", "cvt_small"], "model"),
        (["--max-latency-ms", "9", "--attention", "hard"], "--attention"),
        (["--max-latency-ms", "9", "--engine", "tensorflow"], "--engine"),
        (["--max-latency-ms", "9", "--image-sizes", "big"], "--image-sizes"),
        (["--max-latency-ms", "9", "--budget-minutes", "-1"], "--budget-minutes"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    phantom: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], where: str
) -> None:
    assert run(["plan", str(phantom), *arguments, "--json"]) == 78
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["where"] == where
    assert len(captured.err.strip().splitlines()) == 1


def test_missing_data_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(tmp_path / "nowhere"), "--max-latency-ms", "9"]) == 66
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
