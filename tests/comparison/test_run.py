"""Which stages a comparison does, in which order, and what it makes of their ends; the stages are stand-ins."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from gossamer.comparison.folder import CompareFolder, Trial
from gossamer.comparison.plan_file import ComparePlan, write_plan
from gossamer.comparison.run import NO_RUNG, ComparisonRunner, reason_of
from gossamer.comparison.worker import StageProcesses, Stopped
from gossamer.files import write_json
from gossamer.variants import Variant

VARIANTS = (Variant(model="vit_nano", attention="softmax"), Variant(model="vit_nano", attention="kv"))
QUANTIZE = "quantize vit_nano-{0}-0 vit_nano-{0}-0"
EXPORT = "export vit_nano-softmax-0 vit_nano-softmax-0"
PLAN = ComparePlan(
    data="chest",
    task="classify",
    classes=("clear", "nodule"),
    variants=VARIANTS,
    seeds=(0, 1),
    epochs=3,
    threads=2,
    options={
        "image_size": [24, 28], "batch_size": 5, "precision": "float32", "precisions": ["torch", "float32", "int8"],
        "max_drop": 0.01, "bundle_seeds": [0],
        "forecast": {f"vit_nano-{name}": {"train_s": 1.0, "parameters": 7} for name in ("softmax", "kv")},
    },
)  # fmt: skip


SUMMARY = {
    "split": "test", "metrics": {"auroc": {"value": 1.0, "low": None, "high": None}}, "trivial": {"auroc": 0.5},
    "labels": {"nodule": {}}, "training": {"epochs": 3, "best_epoch": 2, "seconds": 8.0},
}  # fmt: skip
PREDICTIONS = "id,patient,truth,p(nodule)\na,,clear,0.25\nb,,nodule,0.75\n"


class StandIns(StageProcesses):
    """Writes what a stage leaves; ``ends`` gives the status and the log of stages whose words match a pattern."""

    def __init__(self, folder: CompareFolder, ends: dict[str, tuple[int, str]] | None = None) -> None:
        super().__init__(1)
        self.folder = folder
        self.ends = ends or {}
        self.calls: list[str] = []

    def run(self, module: str, arguments: Sequence[str], log: Path) -> int:
        words = " ".join([module, *arguments]).replace(f"{self.folder.path}/", "")
        self.calls.append(words)
        for pattern, (status, text) in self.ends.items():
            if re.search(pattern, words):
                log.write_text(text)
                if status == 130:
                    raise Stopped(2)
                return status
        log.write_text("")
        if module.endswith("measure_variants"):
            for variant in VARIANTS:
                if (state := self.folder.read_state(Trial(variant=variant, seed=0), "train")) and not state.failed:
                    self.folder.measured(variant).parent.mkdir(exist_ok=True)
                    write_json(self.folder.measured(variant), {})
            return 0
        out = Path(arguments[arguments.index("--out") + 1 if "--out" in arguments else -3])
        assert "--resume" in arguments or not out.exists()
        out.mkdir(exist_ok=True)
        for name in ("config.yaml", "summary.json", "manifest.json"):
            (out / name).write_text("{}")
        if "train" in arguments:
            (out / "predictions.csv").write_text(PREDICTIONS)
            write_json(out / "summary.json", SUMMARY)
        return 0


@pytest.fixture
def folder(tmp_path: Path) -> CompareFolder:
    folder = CompareFolder(tmp_path / "out")
    folder.path.mkdir()
    write_plan(folder, PLAN)
    return folder


def go(children: StandIns, *, retry: bool = False) -> list[str]:
    """Run the comparison; return its lines, without times."""
    lines: list[str] = []
    ComparisonRunner(
        children.folder, PLAN, "chest", children, lines.append, lambda: lines.append("table"), retry=retry
    ).run()
    return lines


def short(calls: list[str]) -> list[str]:
    """Return verb and trial of each call."""
    return [
        " ".join(re.findall(r"train|export|quantize|measure|--resume|(?<=cells/)vit_nano-\w+-\d", c)) for c in calls
    ]


def test_the_first_seed_of_all_variants_comes_first_with_what_it_costs(folder: CompareFolder) -> None:
    children = StandIns(folder)
    lines = go(children)
    softmax, kv = "vit_nano-softmax", "vit_nano-kv"
    done = [word.replace(" --resume", "") for word in short(children.calls)]
    assert [line.split()[0] for line in done] == [
        "train", "export", "quantize", "train", "export", "quantize", "measure", "train", "train",
    ]  # fmt: skip
    assert [line.split()[-1] for line in done[:6]] == [f"{softmax}-0"] * 3 + [f"{kv}-0"] * 3
    assert [line.split()[-1] for line in done[7:]] == [f"{softmax}-1", f"{kv}-1"]
    assert children.calls[0] == (
        "gossamer train chest --out cells/vit_nano-softmax-0/run --task classify --model vit_nano --attention softmax "
        "--seed 0 --epochs 3 --batch-size 5 --image-size 24x28 --precision float32 --threads 2"
    )
    assert children.calls[2].endswith("int8 --data chest --max-drop 0.01 --threads 2")
    assert lines.count("table") == len(children.calls) == 9
    assert re.fullmatch(r"\[1/9\] train vit_nano with softmax, seed 0; about \d.* left", lines[0])
    again = StandIns(folder)
    assert go(again) == [] == again.calls


def test_a_trial_that_fails_is_told_and_the_others_go_on(folder: CompareFolder) -> None:
    ends = {
        "train .*softmax-0": (70, "starting\ngossamer: E-VALUE: x: the loss is nan; use a lower rate\n"),
        "quantize .*kv-0": (65, "gossamer: E-VALUE: quantize: no rung keeps the drop of auroc within 0.01 (a); see b"),
    }
    children = StandIns(folder, ends)
    lines = go(children)
    softmax, kv = (Trial(variant=variant, seed=0) for variant in VARIANTS)
    reasons = {
        stage: [getattr(folder.read_state(trial, stage), "failed", "?") for trial in (softmax, kv)]
        for stage in ("train", "export", "quantize")
    }
    assert reasons["train"] == ["E-VALUE: x: the loss is nan; use a lower rate", None]
    assert reasons["export"] == ["train failed", None]
    assert reasons["quantize"] == ["train failed", f"{NO_RUNG}: no rung keeps the drop of auroc within 0.01 (a); see b"]
    assert any("failed: E-VALUE: x" in line for line in lines)
    assert folder.measured(VARIANTS[1]).exists()
    assert not folder.measured(VARIANTS[0]).exists()
    assert short(children.calls)[-2:] == ["train vit_nano-softmax-1", "train vit_nano-kv-1"]
    assert go(StandIns(folder)) == []  # a failure is a result
    mended = StandIns(folder)
    go(mended, retry=True)
    assert [line.split()[0] for line in short(mended.calls)] == ["train", "export", "quantize", "quantize", "measure"]
    assert folder.measured(VARIANTS[0]).exists()


@pytest.mark.parametrize("retry", [False, True])
def test_what_is_lost_is_made_again_with_all_that_came_of_it(folder: CompareFolder, retry: bool) -> None:
    go(StandIns(folder))
    softmax, kv = (Trial(variant=variant, seed=0) for variant in VARIANTS)
    shutil.rmtree(folder.run(softmax))
    shutil.rmtree(folder.bundle(kv, "int8"))
    assert folder.read_state(softmax, "train") is folder.read_state(softmax, "quantize") is None
    assert folder.read_state(kv, "export") is not None
    children = StandIns(folder, {"quantize .*softmax-0": (130, "")})
    with pytest.raises(Stopped):
        go(children, retry=retry)
    assert short(children.calls) == ["train vit_nano-softmax-0", EXPORT, QUANTIZE.format("softmax")]
    assert not folder.measured(VARIANTS[0]).exists()
    children = StandIns(folder)
    go(children, retry=retry)
    assert short(children.calls) == [QUANTIZE.format("softmax"), QUANTIZE.format("kv"), "measure"]
    assert go(StandIns(folder), retry=retry) == []


def test_a_run_that_cannot_be_read_is_trained_again_by_retry_alone(folder: CompareFolder) -> None:
    go(StandIns(folder))
    run = folder.run(Trial(variant=VARIANTS[1], seed=1))
    (run / "predictions.csv").unlink()
    (folder.bundle(Trial(variant=VARIANTS[0], seed=0), "int8") / "manifest.json").write_text("{")
    assert go(StandIns(folder)) == []
    children = StandIns(folder)
    go(children, retry=True)
    assert short(children.calls) == [QUANTIZE.format("softmax"), "measure", "train vit_nano-kv-1"]
    assert (run / "predictions.csv").exists()
    assert go(StandIns(folder), retry=True) == []


def test_a_bundle_that_is_mended_is_measured_with_the_others(folder: CompareFolder) -> None:
    ends = {"quantize .*kv-0": (65, "gossamer: E-BUG: x; y")}
    go(StandIns(folder, ends))
    again = StandIns(folder, ends)
    go(again, retry=True)  # it fails again: what was measured stands
    assert short(again.calls) == [QUANTIZE.format("kv")]
    mended = StandIns(folder)
    go(mended, retry=True)
    assert short(mended.calls) == [QUANTIZE.format("kv"), "measure"]


def test_an_export_that_is_stopped_leaves_nothing(folder: CompareFolder) -> None:
    trial = folder.trial(Trial(variant=VARIANTS[0], seed=0))

    class Half(StandIns):
        def run(self, module: str, arguments: Sequence[str], log: Path) -> int:
            if "export" in arguments:
                (trial / ".float32.abc.part").mkdir()
            return super().run(module, arguments, log)

    with pytest.raises(Stopped):
        go(Half(folder, {"export": (130, "")}))
    assert not list(trial.glob(".float32*"))


def test_it_goes_on_where_it_was_stopped(folder: CompareFolder) -> None:
    stopped = StandIns(folder, {"train .*kv-0": (130, "")})
    with pytest.raises(Stopped):
        go(stopped)
    run = folder.run(Trial(variant=VARIANTS[1], seed=0))
    assert folder.read_state(Trial(variant=VARIANTS[1], seed=0), "train") is None
    run.mkdir()
    (run / "config.yaml").touch()
    # What an export leaves that was killed before its state was written.
    (run.parent / "float32").mkdir()
    (run.parent / ".float32.abc.part").mkdir()
    children = StandIns(folder)
    go(children)
    assert short(children.calls)[0] == "train --resume vit_nano-kv-0"
    assert sum("train" in call for call in short(children.calls)) == 3
    assert not (run.parent / ".float32.abc.part").exists()


def test_a_run_that_cannot_be_resumed_begins_again(folder: CompareFolder) -> None:
    run = folder.run(Trial(variant=VARIANTS[0], seed=0))
    run.mkdir(parents=True)
    for name in ("config.yaml", "last.ckpt"):
        (run / name).write_text("half")
    children = StandIns(folder, {"--resume": (65, "gossamer: E-TRUNCATED: last.ckpt: it ends; copy it again")})
    go(children)
    assert short(children.calls)[:2] == ["train --resume vit_nano-softmax-0", "train vit_nano-softmax-0"]
    assert not (run / "last.ckpt").exists()
    assert getattr(folder.read_state(Trial(variant=VARIANTS[0], seed=0), "train"), "failed", "?") is None


def test_the_reason_of_an_end_without_words() -> None:
    assert reason_of("a\ngossamer: one\ngossamer: E-BUG: two\n", 70) == "E-BUG: two"
    assert reason_of("a\nlast words\n\n", 3) == "exit status 3: last words"
    assert reason_of("", 3) == "exit status 3: it said nothing"
    assert "memory" in reason_of("a", -9)
    assert reason_of("a", -11) == "ended by signal 11"
