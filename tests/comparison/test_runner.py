"""Which stages a comparison runs, in which order, and how it treats their ends; the stages are fakes."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from gossamer.comparison.compare_plan import write_plan
from gossamer.comparison.folder import CompareFolder, Trial
from gossamer.comparison.outcome import NOT_MET, Outcome, read_failure, write_outcome
from gossamer.comparison.runner import ComparisonRunner
from gossamer.comparison.worker import ComparisonInterrupted, StageProcesses
from gossamer.files import write_json
from gossamer.variants import Variant
from made_comparison import create_plan

VARIANTS = (Variant(model="vit_nano", attention="softmax"), Variant(model="vit_nano", attention="kv"))
SOFTMAX, KV = (Trial(variant=variant, seed=0) for variant in VARIANTS)
PLAN = create_plan(VARIANTS, bundle_seeds=(0,), classes=("clear", "nodule"), epochs=3)
SUMMARY = {
    "split": "test", "metrics": {"auroc": {"value": 1.0, "low": None, "high": None}}, "trivial": {"auroc": 0.5},
    "labels": {"nodule": {}}, "training": {"epochs": 3, "best_epoch": 2, "seconds": 8.0},
}  # fmt: skip
PREDICTIONS = "id,patient,truth,p(nodule)\na,,clear,0.25\nb,,nodule,0.75\n"
FAILED = Outcome(status="failed", code="E-VALUE", where="x", message="the loss is nan; use a lower rate")
MISSED = Outcome(status="not_met", code="E-VALUE", where="max_drop", message="0.02 exceeds 0.01")


class FakeProcesses(StageProcesses):
    """Writes the output of a stage. ``ends`` holds the outcomes of stages by name; None stands for a signal."""

    def __init__(self, folder: CompareFolder, ends: dict[str, Outcome | None] | None = None) -> None:
        super().__init__(1)
        self.folder = folder
        self.ends = ends or {}
        self.calls: list[str] = []

    def run(self, module: str, arguments: Sequence[str], log: Path) -> int:
        path, stage, subject, outcome = arguments
        assert (module, Path(path)) == ("stages.module", self.folder.path)
        resumed = stage == "train" and (self.folder.path / "cells" / subject / "run" / "config.yaml").exists()
        call = f"{stage} {subject}" + (" resumed" if resumed else "")
        self.calls.append(call)
        log.write_text("")
        if call in self.ends:
            end = self.ends[call]
            if end is None:
                raise ComparisonInterrupted(2)
            write_outcome(Path(outcome), end)
            return 65
        self.write_output(stage, subject)
        write_outcome(Path(outcome), Outcome(status="done"))
        return 0

    def write_output(self, stage: str, subject: str) -> None:
        if stage == "measure":
            for trial in (SOFTMAX, KV):
                if (state := self.folder.read_state(trial, "train")) and not state.failed:
                    self.folder.costs_path(trial.variant).parent.mkdir(exist_ok=True)
                    write_json(self.folder.costs_path(trial.variant), {})
            return
        out = self.folder.path / "cells" / subject / {"train": "run", "export": "float32", "quantize": "int8"}[stage]
        assert stage == "train" or not out.exists()
        out.mkdir(exist_ok=True)
        for name in ("config.yaml", "summary.json", "manifest.json"):
            (out / name).write_text("{}")
        if stage == "train":
            (out / "predictions.csv").write_text(PREDICTIONS)
            write_json(out / "summary.json", SUMMARY)


class Lines:
    """A ``Progress`` that collects messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def show_message(self, text: str) -> None:
        self.texts.append(text)

    def track_steps(self, label: str):
        raise NotImplementedError


@pytest.fixture
def folder(tmp_path: Path) -> CompareFolder:
    folder = CompareFolder(tmp_path / "out")
    folder.path.mkdir()
    write_plan(folder, PLAN)
    return folder


def run_stages(processes: FakeProcesses, *, retry: bool = False) -> list[str]:
    """Run the comparison, and return its messages and a line for each change of the table."""
    lines = Lines()

    def note_change() -> None:
        lines.texts.append("table")

    ComparisonRunner(processes.folder, PLAN, processes, "stages.module", note_change, lines, retry=retry).run()
    return lines.texts


def failure(folder: CompareFolder, trial: Trial, stage: str) -> str | None:
    """Return why a stage failed; None for a success."""
    state = folder.read_state(trial, stage)  # type: ignore[arg-type]
    assert state is not None
    return state.failed


def test_first_seed_of_all_variants_runs_first(folder: CompareFolder) -> None:
    processes = FakeProcesses(folder)
    lines = run_stages(processes)
    stages = ("train", "export", "quantize")
    assert processes.calls == [
        *(f"{stage} {trial.key}" for trial in (SOFTMAX, KV) for stage in stages), "measure 0",
        "train vit_nano-softmax-1", "train vit_nano-kv-1",
    ]  # fmt: skip
    assert lines.count("table") == len(processes.calls) == 9
    assert re.fullmatch(r"\[1/9\] train vit_nano with softmax, seed 0; about \d.* left", lines[0])
    assert not list(folder.path.rglob("*outcome.json"))
    again = FakeProcesses(folder)
    assert run_stages(again) == [] == again.calls


def test_failed_trial_is_recorded_and_others_continue(folder: CompareFolder) -> None:
    processes = FakeProcesses(folder, {"train vit_nano-softmax-0": FAILED, "quantize vit_nano-kv-0": MISSED})
    lines = run_stages(processes)
    assert failure(folder, SOFTMAX, "train") == "E-VALUE: x: the loss is nan; use a lower rate"
    assert failure(folder, SOFTMAX, "export") == failure(folder, SOFTMAX, "quantize") == "train failed"
    assert failure(folder, KV, "train") is failure(folder, KV, "export") is None
    assert failure(folder, KV, "quantize") == f"{NOT_MET}: 0.02 exceeds 0.01"
    assert any("failed: E-VALUE: x" in line for line in lines)
    assert folder.costs_path(VARIANTS[1]).exists()
    assert not folder.costs_path(VARIANTS[0]).exists()
    assert processes.calls[-2:] == ["train vit_nano-softmax-1", "train vit_nano-kv-1"]
    assert run_stages(FakeProcesses(folder)) == []  # a failure is a result
    repaired = FakeProcesses(folder)
    run_stages(repaired, retry=True)
    assert [call.split()[0] for call in repaired.calls] == ["train", "export", "quantize", "quantize", "measure"]
    assert folder.costs_path(VARIANTS[0]).exists()


@pytest.mark.parametrize("retry", [False, True])
def test_lost_output_is_made_again_with_what_depends_on_it(folder: CompareFolder, retry: bool) -> None:
    run_stages(FakeProcesses(folder))
    shutil.rmtree(folder.run_path(SOFTMAX))
    shutil.rmtree(folder.bundle_path(KV, "int8"))
    assert folder.read_state(SOFTMAX, "train") is folder.read_state(SOFTMAX, "quantize") is None
    assert folder.read_state(KV, "export") is not None
    processes = FakeProcesses(folder, {"quantize vit_nano-softmax-0": None})
    with pytest.raises(ComparisonInterrupted):
        run_stages(processes, retry=retry)
    assert processes.calls == [f"{stage} vit_nano-softmax-0" for stage in ("train", "export", "quantize")]
    assert not folder.costs_path(VARIANTS[0]).exists()
    processes = FakeProcesses(folder)
    run_stages(processes, retry=retry)
    assert processes.calls == ["quantize vit_nano-softmax-0", "quantize vit_nano-kv-0", "measure 0"]
    assert run_stages(FakeProcesses(folder), retry=retry) == []


def test_only_retry_repeats_what_cannot_be_read(folder: CompareFolder) -> None:
    run_stages(FakeProcesses(folder))
    run = folder.run_path(Trial(variant=VARIANTS[1], seed=1))
    (run / "predictions.csv").unlink()
    (folder.bundle_path(SOFTMAX, "int8") / "manifest.json").write_text("{")
    assert run_stages(FakeProcesses(folder)) == []
    processes = FakeProcesses(folder)
    run_stages(processes, retry=True)
    assert processes.calls == ["quantize vit_nano-softmax-0", "measure 0", "train vit_nano-kv-1"]
    assert (run / "predictions.csv").exists()
    assert run_stages(FakeProcesses(folder), retry=True) == []


def test_repaired_bundle_is_measured_with_the_others(folder: CompareFolder) -> None:
    ends: dict[str, Outcome | None] = {"quantize vit_nano-kv-0": FAILED}
    run_stages(FakeProcesses(folder, ends))
    again = FakeProcesses(folder, ends)
    run_stages(again, retry=True)  # it fails again, so the measured costs stay
    assert again.calls == ["quantize vit_nano-kv-0"]
    repaired = FakeProcesses(folder)
    run_stages(repaired, retry=True)
    assert repaired.calls == ["quantize vit_nano-kv-0", "measure 0"]


def test_stopped_export_leaves_nothing(folder: CompareFolder) -> None:
    path = folder.trial_path(SOFTMAX)

    class HalfExport(FakeProcesses):
        def run(self, module: str, arguments: Sequence[str], log: Path) -> int:
            if "export" in arguments:
                (path / ".float32.abc.part").mkdir()
            return super().run(module, arguments, log)

    with pytest.raises(ComparisonInterrupted):
        run_stages(HalfExport(folder, {"export vit_nano-softmax-0": None}))
    assert not list(path.glob(".float32*"))


def test_stopped_training_is_resumed(folder: CompareFolder) -> None:
    with pytest.raises(ComparisonInterrupted):
        run_stages(FakeProcesses(folder, {"train vit_nano-kv-0": None}))
    run = folder.run_path(KV)
    assert folder.read_state(KV, "train") is None
    run.mkdir()
    (run / "config.yaml").touch()
    # The output of an export that was killed before its state was written.
    (run.parent / "float32").mkdir()
    (run.parent / ".float32.abc.part").mkdir()
    processes = FakeProcesses(folder)
    run_stages(processes)
    assert processes.calls[0] == "train vit_nano-kv-0 resumed"
    assert sum("train" in call for call in processes.calls) == 3
    assert not (run.parent / ".float32.abc.part").exists()


def test_run_that_cannot_be_resumed_is_trained_from_the_start(folder: CompareFolder) -> None:
    run = folder.run_path(SOFTMAX)
    run.mkdir(parents=True)
    for name in ("config.yaml", "last.ckpt"):
        (run / name).write_text("half")
    truncated = dataclasses.replace(FAILED, code="E-TRUNCATED", where="last.ckpt")
    processes = FakeProcesses(folder, {"train vit_nano-softmax-0 resumed": truncated})
    run_stages(processes)
    assert processes.calls[:2] == ["train vit_nano-softmax-0 resumed", "train vit_nano-softmax-0"]
    assert not (run / "last.ckpt").exists()
    assert failure(folder, SOFTMAX, "train") is None


@pytest.mark.parametrize(
    ("log", "status", "reason"),
    [
        ("a\nlast words\n\n", 3, "exit status 3: last words"),
        ("", 3, "exit status 3: no output"),
        ("a", -11, "ended by signal 11"),
    ],
)
def test_reason_of_a_process_without_an_outcome(tmp_path: Path, log: str, status: int, reason: str) -> None:
    (tmp_path / "log").write_text(log)
    assert read_failure(tmp_path / "outcome.json", tmp_path / "log", status) == reason


def test_outcome_must_agree_with_the_exit_status(tmp_path: Path) -> None:
    outcome, log = tmp_path / "outcome.json", tmp_path / "log"
    log.write_text("")
    assert "memory" in str(read_failure(outcome, log, -9))
    assert read_failure(outcome, log, 0) is not None
    write_outcome(outcome, Outcome(status="done"))
    assert read_failure(outcome, log, 0) is None
    assert read_failure(outcome, log, -9) is not None
