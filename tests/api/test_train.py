"""``gossamer.train``: what a call leaves behind, the options and configs that it refuses, and what options replace."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer
from gossamer.errors import ErrorCode, GossamerError
from gossamer.training.options import TrainOptions, read_options
from gossamer.training.run_folder import RunFolder

OLD = Path(__file__).parents[1] / "data" / "compat010"
CHEST = OLD / "data" / "classification"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the memory of a fresh process, which takes longer than a training here."""
    monkeypatch.setattr("gossamer.profiling.network.measure_peak_memory", lambda *_, **__: None)


def process_state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "random": torch.random.get_rng_state().tolist(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "warnings": list(warnings.filters),
        "levels": [logging.getLogger(name).level for name in ("lightning", "lightning.pytorch", "lightning.fabric")],
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }


@pytest.mark.usefixtures("quick")
def test_training_leaves_the_process_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, runs = OLD / "classification_run", []
    in_thread: dict[str, Any] = {"config": config / "config.yaml", "epochs": 1, "threads": 1, "out": tmp_path / "a"}
    thread = threading.Thread(target=lambda: runs.append(gossamer.train(CHEST, **in_thread)))
    thread.start()
    thread.join()
    before = process_state()  # after packages are imported, which set filters and levels of their own
    run = gossamer.train(CHEST, config=config, epochs=1, flips="both", threads=2, out=tmp_path / "b")
    assert process_state() == before
    assert capfd.readouterr() == ("", "")
    base = RunFolder(OLD / "classification_run").read_config()
    assert (run.config.model, run.config.recipe.learning_rate) == (base.model, base.recipe.learning_rate)
    assert (run.config.recipe.epochs, run.config.recipe.augmentation.flips) == (1, "both")
    assert (run.report.is_file(), runs[0].report.is_file()) == (True, True)
    assert run.to_dict()["metrics"]["auroc"]["value"] == run.metrics["auroc"].value
    assert run.load().classes == base.classes
    assert "AUROC" in repr(run)


@pytest.mark.parametrize(
    ("arguments", "code", "where"),
    [
        ({}, ErrorCode.CONFIG, "gossamer train"),
        ({"data": CHEST, "resume": CHEST}, ErrorCode.CONFIG, "gossamer train"),
        ({"resume": OLD / "classification_stopped", "epochs": 3}, ErrorCode.CONFIG, "resume"),
        ({"resume": OLD / "data"}, ErrorCode.MISSING, str(OLD / "data")),
        ({"data": CHEST, "epoch": 3}, ErrorCode.CONFIG, "epoch"),
        ({"data": CHEST, "epochs": "many"}, ErrorCode.CONFIG, "epochs"),
        ({"data": CHEST, "epochs": 0}, ErrorCode.CONFIG, "epochs"),
        ({"data": CHEST, "image_size": "28by28"}, ErrorCode.CONFIG, "image_size"),
        ({"data": CHEST, "seed": -1}, ErrorCode.CONFIG, "seed"),
        ({"data": CHEST, "threads": 0}, ErrorCode.CONFIG, "threads"),
        ({"data": CHEST, "loss": "dice"}, ErrorCode.CONFIG, "loss"),
        ({"data": CHEST, "model": "cvt_small"}, ErrorCode.CONFIG, "model"),
        ({"data": CHEST, "query": "mean"}, ErrorCode.CONFIG, "query"),
        ({"data": OLD / "absent"}, ErrorCode.MISSING, str(OLD / "absent")),
        ({"data": CHEST, "config": OLD / "absent.yaml"}, ErrorCode.MISSING, str(OLD / "absent.yaml")),
        ({"data": CHEST, "config": OLD / "segmentation_run"}, ErrorCode.FORMAT, str(CHEST)),
    ],
)
def test_bad_arguments_raise_and_write_nothing(
    arguments: dict[str, Any], code: ErrorCode, where: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GossamerError) as caught:
        gossamer.train(**{**arguments, "out": tmp_path / "run"})
    assert (caught.value.code, caught.value.where) == (code, where)
    assert not (tmp_path / "run").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["", "- 1", "model: [", "recipe: {}", "data: !!python/name:os.system", "\udcff", None])
def test_malformed_configs_are_one_error(text: str | None, tmp_path: Path) -> None:
    path, whole = tmp_path / "config.yaml", (OLD / "classification_run" / "config.yaml").read_text()
    path.write_text(f"{whole}colour: red\n" if text is None else text, errors="surrogateescape")
    with pytest.raises(GossamerError) as caught:
        gossamer.train(CHEST, config=path, out=tmp_path / "run")
    assert caught.value.code is ErrorCode.CONFIG
    assert str(path) in caught.value.where
    assert "\n" not in str(caught.value)


def test_options_take_the_forms_of_python_and_of_the_command_line() -> None:
    typed, given = read_options({"image_size": "28x24", "init": "a"}), read_options({"image_size": (28, 24)})
    assert typed.input_size == given.input_size == (28, 24)
    assert typed.init == Path("a")
    assert read_options({}) == TrainOptions()
