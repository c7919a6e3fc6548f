"""Training that starts from trained weights, and training that must fit into memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from gossamer.cli.main import run
from gossamer.data import open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.train.plan import plan_run, run_name
from gossamer.train.plan_memory import plan_memory
from gossamer.train.wishes import Wishes


def plan(data: Path, **wishes: object):
    return plan_run(open_dataset(data), Wishes(**wishes))  # type: ignore[arg-type]


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


def test_what_the_weights_have_decided_is_not_decided_again(trained: Path, phantom: Path) -> None:
    for wish in ({"model": "vit_tiny"}, {"patch_size": 4}, {"stem": "patch"}):
        with pytest.raises(GossamerError, match="brings its own network"):
            Wishes(init=trained, **wish)  # type: ignore[arg-type]
    with pytest.raises(GossamerError, match="change their mechanism"):
        Wishes(query="mean", attention="kv")
    made, notes = plan(phantom, init=trained, attention="kv", query="mean")
    assert made.init is not None
    assert made.init.query == "mean"
    assert [note.text for note in notes if note.where.startswith("weights of")]
    assert run_name(open_dataset(phantom), Wishes(init=trained, attention="kv")).startswith(
        f"{phantom.name}-vit_nano-kv"
    )


def test_weights_that_changed_since_the_plan_are_refused(trained: Path, phantom: Path, tmp_path: Path) -> None:
    from gossamer.train.initial import start_from
    from gossamer.train.run import InitialWeights

    made, _ = plan(phantom, init=trained)
    with pytest.raises(GossamerError, match="other weights than when the run was planned") as caught:
        start_from(InitialWeights(str(trained), "0" * 64), made.model.build())
    assert caught.value.code is ErrorCode.INTEGRITY


def test_a_run_that_does_not_fit_says_what_would(phantom: Path) -> None:
    made, _ = plan(phantom, model="vit_small", attention="softmax", batch_size=64, precision="float32")
    fits, line = plan_memory(made, 0, available=8 * 2**30)
    assert line is not None
    assert not fits.recipe.recompute
    needed = float(line.split("about ")[1].split(" GiB")[0]) * 2**30
    again, line = plan_memory(made, 0, available=int(0.8 * needed))
    assert line is not None
    assert again.recipe.recompute
    assert "evaluated again" in line
    with pytest.raises(GossamerError) as caught:
        plan_memory(made, 0, recompute=False, available=int(0.8 * needed))
    assert caught.value.code is ErrorCode.LIMIT
    assert "--recompute needs about" in str(caught.value)
    batch = int(str(caught.value).split("--batch-size ")[1].split()[0])
    assert 1 <= batch <= 32
    with pytest.raises(GossamerError, match="the images alone take"):
        plan_memory(made, 10**7, available=2**30)
    with pytest.raises(GossamerError, match="not even one image fits"):
        plan_memory(made, 0, available=2**20)
