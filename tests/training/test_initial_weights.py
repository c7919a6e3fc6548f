"""Training that starts from trained weights, and training that must fit into memory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

import gossamer
from gossamer.cli.main import run
from gossamer.data import open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.training.initial_weights import read_initial, reload_initial
from gossamer.training.options import TrainOptions
from gossamer.training.plan import name_run, plan_run
from gossamer.training.plan_memory import plan_memory
from gossamer.training.resolve_model import choose_network
from gossamer.training.run_folder import InitialWeightsSource


def plan(data: Path, **options: object):
    return plan_run(open_dataset(data), TrainOptions(**options))  # type: ignore[arg-type]


def test_a_run_starts_where_another_ended_with_another_mechanism(
    trained: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "second"
    options = ["--epochs", "1", "--threads", "1", "--batch-size", "8", "--learning-rate", "1e-9"]
    assert (
        run(["train", str(phantom), "--out", str(folder), "--init", str(trained), "--attention", "softmax", *options])
        == 0
    )
    told = capsys.readouterr().err
    assert f"weights of {trained}: " in told
    assert "0 fresh" in told
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written["init"]["path"] == str(trained)
    assert written["model"]["attention"]["name"] == "softmax"
    assert written["preset"] == "vit_nano"
    again = tmp_path / "third"
    assert run(["train", str(phantom), "--out", str(again), "--init", str(trained), *options]) == 0
    first, kept = (json.loads((path / "summary.json").read_text())["metrics"]["auroc"] for path in (trained, again))
    assert kept["value"] == pytest.approx(first["value"], abs=1e-3), "a rate of nearly 0 leaves the weights as they are"


def test_initial_weights_define_the_network(trained: Path, phantom: Path) -> None:
    for contradiction in ({"model": "vit_tiny"}, {"patch_size": 4}, {"stem": "patch"}):
        with pytest.raises(GossamerError) as caught:
            TrainOptions(init=trained, **contradiction)  # type: ignore[arg-type]
        assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, next(iter(contradiction)))
    with pytest.raises(GossamerError) as caught:
        TrainOptions(query="mean", attention="kv")
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "query")
    made, notes = plan(phantom, init=trained, attention="kv", query="mean")
    assert made.init is not None
    assert made.init.query == "mean"
    assert [note.text for note in notes if note.where.startswith("weights of")]
    choice = choose_network("classify", TrainOptions(init=trained, attention="kv"))
    assert name_run(open_dataset(phantom), choice, 3) == f"{phantom.name}-vit_nano-kv-3"


def test_query_without_effect_is_refused(trained: Path, phantom: Path) -> None:
    for wanted in ("sima", "softmax"):
        with pytest.raises(GossamerError) as caught:
            choose_network("classify", TrainOptions(init=trained, attention=wanted, query="mean"))
        assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "query")


def test_a_bundle_has_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(GossamerError) as caught:
        read_initial(tmp_path)
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_changed_initial_weights_are_refused(trained: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        reload_initial(InitialWeightsSource(str(trained), "0" * 64))
    assert caught.value.code is ErrorCode.INTEGRITY


def test_a_run_that_does_not_fit_says_what_would(phantom: Path) -> None:
    made, _ = plan(phantom, model="vit_small", attention="softmax", batch_size=64, precision="float32")
    fits, line = plan_memory(made.model, made.recipe, 0, available=8 * 2**30)
    assert line is not None
    assert not fits.recompute
    needed = float(line.split("about ")[1].split(" GiB")[0]) * 2**30
    again, line = plan_memory(made.model, made.recipe, 0, available=int(0.8 * needed))
    assert line is not None
    assert again.recompute
    assert "evaluated again" in line
    with pytest.raises(GossamerError) as caught:
        plan_memory(made.model, made.recipe, 0, recompute=False, available=int(0.8 * needed))
    assert caught.value.code is ErrorCode.BUSY
    assert "--recompute needs about" in str(caught.value)
    batch = int(str(caught.value).split("--batch-size ")[1].split()[0])
    assert 1 <= batch <= 32
    told: list[str] = []
    large = dataclasses.replace(made.model, image_size=(4096, 2048))
    with pytest.raises(GossamerError) as caught:
        plan_memory(large, made.recipe, 0, recompute=False, available=2**27, on_stage=told.append)
    assert told == ["forecasting the memory of a batch of 64 images of 4096x2048"]
    assert caught.value.code is ErrorCode.BUSY
    assert "--batch-size" not in caught.value.remedy
    for images, available in ((10**7, 2**30), (0, 2**20)):
        with pytest.raises(GossamerError) as caught:
            plan_memory(made.model, made.recipe, images, available=available)
        assert (caught.value.code, caught.value.where) == (ErrorCode.BUSY, "memory")
        assert "--batch-size" not in caught.value.remedy


def test_memory_is_planned_before_preprocessing_is_fitted(phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gossamer.api import train as module
    from gossamer.training.classification import plan as task_plan

    monkeypatch.setattr(
        task_plan, "fit_preprocessing", lambda *_: pytest.fail("images were read at the network's size")
    )

    def refuse(*_: object, **__: object) -> None:
        raise GossamerError(ErrorCode.BUSY, "memory", "too large", "use less")

    monkeypatch.setattr(module, "plan_memory", refuse)
    with pytest.raises(GossamerError) as caught:
        gossamer.train(phantom, out=phantom.parent / "refused")
    assert caught.value.code is ErrorCode.BUSY
    assert not (phantom.parent / "refused").exists()
