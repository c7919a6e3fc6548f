"""Every verb does what its help says, in text and as JSON."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from gossamer import __version__
from gossamer.cli.main import run


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """Run a verb with --json and return the one object that it prints."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_train_leaves_everything_in_the_run_folder(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {
        "config.yaml", "env.json", "metrics.csv", "progress.png", "model.safetensors", "config.json", "last.ckpt",
        "report.html", "summary.json", "predictions.csv", "thresholds.json",
    }  # fmt: skip
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["thresholds"] == json.loads((trained / "thresholds.json").read_text())
    assert summary["thresholds"]["labels"] == list(summary["labels"]) == ["nodule"]
    assert set(summary["metrics"]["auroc"]) == {"value", "low", "high"}
    assert summary["cost"]["macs"]["value"] == summary["cost"]["macs_closed_form"]["value"]
    assert summary["splits"]["train"] > 0
    environment = json.loads((trained / "env.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["threads"] == 1


def test_report_is_one_page_that_needs_no_other_file(trained: Path, phantom: Path) -> None:
    page = (trained / "report.html").read_text()
    summary = json.loads((trained / "summary.json").read_text())
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    assert page.count("<svg") == 3
    assert page.count("data:image/png;base64,") == 12
    assert "<h1>vit_nano with sequence_norm</h1>" in page
    for estimate in summary["metrics"].values():
        for value in estimate.values():
            assert f"{value:.3f}" in page
    for value in summary["trivial"].values():
        assert f"{value:.3f}" in page
    for figure in summary["cost"].values():
        assert escape(figure["detail"]) in page
    for name in ("clear", "nodule"):
        assert name in page


def test_report_has_date_and_version_and_no_absolute_path(trained: Path, phantom: Path) -> None:
    page = (trained / "report.html").read_text()
    assert re.search(rf"20\d\d-\d\d-\d\d by Gossamer {re.escape(__version__)}", page)
    assert phantom.name in page
    for path in (phantom.parent, trained.parent, Path.home()):
        assert str(path) not in page


def test_evaluate_agrees_with_the_summary(
    trained: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "evaluate", str(trained), str(phantom), "--out", str(tmp_path / "cases.csv"))
    summary = json.loads((trained / "summary.json").read_text())
    for name, estimate in summary["metrics"].items():
        assert found["metrics"][name] == pytest.approx(estimate, abs=1e-5), (
            name
        )  # another number of threads rounds otherwise
    assert found["trivial"] == summary["trivial"]
    assert len((tmp_path / "cases.csv").read_text().splitlines()) == summary["samples"] + 1
    everything = answer(capsys, "evaluate", str(trained), str(phantom), "--split", "all")
    assert everything["samples"] == 60
    assert run(["evaluate", str(trained), str(phantom), "--split", "tset"]) == 78


def test_predict_agrees_with_evaluate(
    trained: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "preds.csv"
    out.parent.mkdir()
    found = answer(capsys, "predict", str(trained), str(phantom / "images"), "--out", str(out))
    assert len(found["predictions"]) == 60
    with out.open() as file:
        predicted = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    with (trained / "predictions.csv").open() as file:
        for row in csv.DictReader(file):
            same = predicted[Path(row["id"]).name]
            assert same["prediction"] == row["prediction"]
            assert float(same["p(nodule)"]) == pytest.approx(float(row["p(nodule)"]), abs=2e-6)


def test_predict_goes_on_behind_a_bad_image(
    trained: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (phantom / "images" / "00000.png").read_bytes()
    (tmp_path / "a.png").write_bytes(good)
    (tmp_path / "b.png").write_bytes(good[:-60])
    (tmp_path / "c.png").write_bytes(good)
    found = answer(capsys, "predict", str(trained), str(tmp_path), "--out", str(tmp_path / "p.csv"), status=65)
    assert [Path(item["path"]).name for item in found["predictions"]] == ["a.png", "c.png"]
    error = json.loads((tmp_path / "errors.jsonl").read_text())
    assert error["code"] == "E-TRUNCATED"
    assert error["path"].endswith("b.png")
    assert run(["predict", str(trained), str(tmp_path), "--strict", "--out", str(tmp_path / "q.csv")]) == 65
    assert not (tmp_path / "q.csv").exists()
    assert run(["predict", str(trained), str(tmp_path / "nowhere")]) == 66


def test_predict_prints_a_table_when_no_file_is_named(
    trained: Path, phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["predict", str(trained), str(phantom / "images" / "00001.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "path,prediction,p(clear),p(nodule)"
    assert len(lines) == 2


def test_profile_of_a_preset_and_of_a_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--image-size", "32x48", "--patch-size", "8", "--attention", "softmax", "--threads", "1"]
    found = answer(capsys, "profile", "vit_nano", *options)
    assert found["cost"]["macs"]["how"] == "computed"
    assert found["cost"]["latency_p50"]["how"] == "measured"
    assert found["cost"]["macs"]["value"] == found["cost"]["macs_closed_form"]["value"]
    assert answer(capsys, "profile", str(trained))["cost"]["parameters"]["value"] > 1e6
    assert run(["profile", str(trained), "--image-size", "64x64"]) == 78
    assert run(["profile", "vit_nano", "--batch", "0"]) == 78


def test_models_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "models", "vit_tiny*")
    assert [model["name"] for model in found["models"]] == ["vit_tiny", "vit_tiny_conv"]
    assert found["models"][0]["parameters"] == 5_717_416
    assert {"softmax", "sequence_norm"} <= set(found["attention"])
    machine = answer(capsys, "doctor")
    assert machine["usable_cpus"] >= 1
    assert isinstance(machine["advice"], list)


def test_data_check_and_phantom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = answer(capsys, "data", "phantom", str(tmp_path / "p"), "--count", "30", "--image-size", "16x20")
    assert made["images"] == 30
    found = answer(capsys, "data", "check", str(tmp_path / "p"))
    assert found["ok"]
    assert found["sizes"] == {"16x20": 30}
    assert run(["data", "phantom", str(tmp_path / "p")]) == 73
    assert run(["data", "phantom", str(tmp_path / "q"), "--count", "3"]) == 78
    (tmp_path / "p" / "images" / "00003.png").write_bytes(b"")
    assert not answer(capsys, "data", "check", str(tmp_path / "p"), status=65)["ok"]


def test_data_check_and_phantom_with_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "p")
    options = ["--kind", "abdomen", "--count", "73", "--image-size", "24x28"]
    assert answer(capsys, "data", "phantom", folder, *options)["images"] == 96
    found = answer(capsys, "data", "check", folder)
    assert found["ok"]
    assert found["sizes"] == {"12x24x28": 8}
    assert set(found["masks"]["pixel_shares"]) == {"large_bowel", "small_bowel", "stomach"}
    assert run(["data", "phantom", str(tmp_path / "q"), "--kind", "abdomen", "--count", "20"]) == 78
    assert run(["data", "check", folder]) == 0
    printed = capsys.readouterr().out
    assert "3 x 14.29 x 14.29 mm" in printed
    assert ["slices", "96"] in [line.split() for line in printed.splitlines()]


def test_text_answers_are_for_people(trained: Path, phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["data", "check", str(phantom)], "equal images across splits"),
        (["evaluate", str(trained), str(phantom)], "95 % interval"),
        (["models", "vit_nano"], "attention: "),
        (["doctor"], "processor"),
        (["profile", str(trained)], "Peak memory of the process"),
    ):
        capsys.readouterr()
        assert run(arguments) == 0
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("model", ["resnet_18_small", "soft_pyramid_small"])
def test_every_kind_of_network_ends_in_a_report(model: str, phantom: Path, tmp_path: Path) -> None:
    folder = tmp_path / model
    assert run(["train", str(phantom), "--model", model, "--epochs", "1", "--threads", "1", "--out", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    title = model if model.startswith("resnet") else f"{model} with soft"
    assert title in page
    assert run(["predict", str(folder), str(phantom / "images"), "--out", str(tmp_path / "predictions.csv")]) == 0
