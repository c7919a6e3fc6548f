"""The training loop: killed and resumed, on two processes, with a poisoned image, and on a full disk."""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gossamer.checkpoint import read_tensors
from gossamer.cli.main import run
from gossamer.errors import ErrorCode

OPTIONS = ["--model", "vit_nano", "--epochs", "4", "--threads", "1", "--precision", "float32", "--batch-size", "8"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "gossamer", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def uninterrupted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "whole"
    assert run(["train", str(phantom), "--out", str(folder), *OPTIONS]) == 0
    return folder


def test_a_killed_run_resumes_bit_for_bit(phantom: Path, tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / "killed"
    chance = random.Random(4)
    process = start("train", str(phantom), "--out", str(folder), *OPTIONS)
    kills = 0
    while kills < 3:
        while not (folder / "metrics.csv").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.6))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        for name in ("model.safetensors", "last.ckpt"):
            if (folder / name).exists():
                read_tensors(folder / name)
        process = start("train", "--resume", str(folder))
        (folder / "metrics.csv").unlink()  # its return says that the next epoch is done
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert kills > 0
    assert weights(folder) == weights(uninterrupted)
    assert history(folder) == history(uninterrupted)
    metrics = [json.loads((place / "summary.json").read_text())["metrics"] for place in (folder, uninterrupted)]
    assert metrics[0] == metrics[1]


def test_stopped_run_resumes(phantom: Path, tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / "stopped"
    process = start("train", str(phantom), "--out", str(folder), *OPTIONS)
    while not (folder / "metrics.csv").exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"--resume" in errors.splitlines()[-1]
    assert run(["train", "--resume", str(folder)]) == 0
    assert weights(folder) == weights(uninterrupted)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    phantom: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    assert run(["train", str(phantom), "--out", str(tmp_path / "again"), *OPTIONS]) == 0
    assert run(["train", str(phantom), "--out", str(tmp_path / "other"), *OPTIONS, "--seed", "1"]) == 0
    assert weights(tmp_path / "again") == weights(uninterrupted)
    assert weights(tmp_path / "other") != weights(uninterrupted)


def test_a_finished_run_can_be_resumed_without_change(uninterrupted: Path) -> None:
    before = weights(uninterrupted)
    assert run(["train", "--resume", str(uninterrupted)]) == 0
    assert weights(uninterrupted) == before


def test_two_processes_give_the_metrics_of_one(phantom: Path, tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / "pair"
    finished = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517",
            "-m", "gossamer", "train", str(phantom), "--out", str(folder), *OPTIONS,
        ],
        capture_output=True, env=ENVIRONMENT, timeout=180, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr.decode()[-2000:]
    for one, two in zip(history(uninterrupted), history(folder), strict=True):
        for key in one:
            # AdamW divides by the root of tiny squared gradients, which carries rounding on.
            assert float(two[key]) == pytest.approx(float(one[key]), rel=5e-3, abs=1e-3), key
    one, two = (json.loads((place / "summary.json").read_text()) for place in (uninterrupted, folder))
    assert two["metrics"]["auroc"]["value"] == pytest.approx(one["metrics"]["auroc"]["value"], abs=0.02)


def test_a_loss_that_is_not_finite_names_its_images(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    status = run(["train", str(phantom), "--out", str(folder), *OPTIONS, "--learning-rate", "1e12"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert status == ErrorCode.VALUE.exit_status
    assert "E-VALUE" in line
    assert "images/" in line
    named = json.loads((folder / "bad_batch.json").read_text())["images"]
    assert named[0] in line
    assert len(named) <= 8


def test_a_poisoned_image_is_refused_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(10):
            array = generator.random((8, 8)).astype(np.float32)
            if (name, index) == ("b", 3):
                array[2, 2] = np.nan
            tifffile.imwrite(tmp_path / "data" / name / f"{index}.tif", array, photometric="minisblack")
    status = run(["train", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *OPTIONS])
    assert status == ErrorCode.VALUE.exit_status
    assert "b/3.tif" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_with_one_line_and_no_partial_file(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        status = run(["train", str(phantom), "--out", str(folder), *OPTIONS])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == ErrorCode.NOSPACE.exit_status
    assert "E-NOSPACE" in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "model.safetensors").exists()
    assert not [entry for entry in folder.iterdir() if entry.name.endswith(".part")]


def test_multi_label_data_train(phantom: Path, tmp_path: Path) -> None:
    rows = (phantom / "manifest.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows[1:]]
    for number, cell in enumerate(cells):
        labels = [cell[1]] * (cell[1] == "nodule") + ["odd"] * (number % 2)
        cell[0], cell[1] = str(phantom / cell[0]), "|".join(labels) or "-"
    table = tmp_path / "labels.csv"
    table.write_text("\n".join([rows[0], *(",".join(cell) for cell in cells)]))
    assert run(["train", str(table), "--out", str(tmp_path / "run"), *OPTIONS]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["training"]["class_weights"]) == {"nodule", "odd"}
    assert 0 <= summary["metrics"]["auroc"]["value"] <= 1
