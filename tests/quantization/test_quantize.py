"""From a float32 bundle to an int8 bundle, or only to a report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import jaxtyping
import numpy as np
import onnx
import pytest
import torch
from made_graphs import convolutions, write

import gossamer
from gossamer.cli.main import run
from gossamer.data import ClassificationDataset, Sample
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import Estimate
from gossamer.inference.bundle import open_bundle
from gossamer.inference.classification import bundle_predictor
from gossamer.quantization import accuracy_loss, classification, quantize, source
from gossamer.quantization.outcome import LimitNotMetError, QuantizationOptions
from gossamer.quantization.source import make_weights_constant, open_quantization_source


def options(bundle: Path, data: Path, out: Path) -> list[str]:
    return ["quantize", str(bundle), "--data", str(data), "--out", str(out), "--threads", "1"]


def losing(monkeypatch: pytest.MonkeyPatch, *drops: float) -> None:
    """Make every comparison find the next of ``drops``, and the last one again after that."""
    left = list(drops)

    def paired(measure, groups, **rest):
        drop = left.pop(0) if len(left) > 1 else left[0]
        return 0.9, 0.9 - drop, Estimate(drop, drop, drop)

    monkeypatch.setattr(accuracy_loss, "measure_paired_drop", paired)


def any_folder_is_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every folder that is not a bundle as a run that classifies."""
    described = SimpleNamespace(task="classify", data="nowhere")
    monkeypatch.setattr(source, "RunFolder", lambda path: SimpleNamespace(read_config=lambda: described))


def test_a_float32_bundle_becomes_an_int8_bundle(
    float_bundle: Path, phantom: Path, chest: ClassificationDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8"
    assert run([*options(float_bundle, phantom, out), "--max-drop", "0.2", "--sensitivities", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    bundle = open_bundle(out, threads=1)
    manifest, before = bundle.manifest, open_bundle(float_bundle, threads=1).manifest
    record = manifest.quantization
    assert record is not None
    assert (manifest.precision, record["rung"]) == ("int8", "dynamic")
    assert record["products_in_int8"] == {"MatMul": 2, "Gemm": 1}
    assert record["products_in_float32"] == ["stem"]
    assert sum(record["executed_by_onnxruntime_here"].values()) == 3
    assert record["validation"]["drop"]["value"] <= 0.2
    assert record["test"]["split"] == "test"
    assert record["bytes"]["int8"] == manifest.members["model.onnx"].bytes
    assert "float32" in record["speed"][0]
    assert (manifest.output, manifest.source, manifest.licence) == (before.output, before.source, before.licence)
    assert manifest.quality["auroc"]["value"] == pytest.approx(record["test"]["int8"], abs=1e-5)
    assert manifest.parity is not None
    assert manifest.parity.tolerance is None
    assert 0 < manifest.parity.probabilities < 0.1
    assert "Quantization" in (out / "README.md").read_text()
    report = tmp_path / "int8.report"
    assert {path.name for path in report.iterdir()} == {"quantization.json", "sensitivity.png"}
    written = json.loads((report / "quantization.json").read_text())
    assert written["quantization"]["rung"] == answer["quantization"]["rung"]
    assert [one["layer"] for one in written["sensitivities"]] == ["stem", "block.qkv", "block.output", "head"]
    assert set(written["calibration"]["samples"]) == {sample.id for sample in chest.split("train")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8", "int8.report"]
    image = chest.read(chest.split("test")[0])
    np.testing.assert_allclose(
        bundle_predictor(bundle).predict(image).probabilities,
        bundle_predictor(open_bundle(float_bundle, threads=1)).predict(image).probabilities,
        atol=0.05,
    )


def test_the_next_scheme_is_tried_and_the_ends_are_kept(
    float_bundle: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(monkeypatch, 0.3, 0.1)
    out = tmp_path / "int8"
    assert run([*options(float_bundle, phantom, out), "--max-drop", "0.1", "--keep-ends", "--metric", "accuracy"]) == 0
    record = open_bundle(out, threads=1).manifest.quantization
    assert record is not None
    assert record["rung"] == "static"
    assert record["products_in_float32"] == ["stem", "head"]
    assert record["validation"]["metric"] == "accuracy"
    kinds = [node.op_type for node in onnx.load(out / "model.onnx").graph.node]
    assert "DynamicQuantizeLinear" not in kinds


def test_only_the_report_is_written_if_no_scheme_fits(
    float_bundle: Path,
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    losing(monkeypatch, 0.3)
    measured: list[str] = []
    measure = classification.measure_reference
    monkeypatch.setattr(
        classification, "measure_reference", lambda *given: measured.append(given[2]) or measure(*given)
    )
    out = tmp_path / "deep" / "int8"
    assert run(options(float_bundle, phantom, out)) == ErrorCode.VALUE.exit_status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "E-VALUE" in line]
    assert "auroc within 0.005" in line
    assert "0.3000" in line
    report = json.loads((out.with_name("int8.report") / "quantization.json").read_text())
    assert [path.name for path in out.parent.iterdir()] == ["int8.report"]
    assert (report["met"], report["quantization"]) == (False, None)
    assert {step["rung"] for step in report["steps"]} == {"dynamic", "static", "mixed"}
    assert report["steps"][-1]["kept"]
    assert len(report["sensitivities"]) == 4
    # The test split is used for a chosen network only.
    assert measured == ["val"]


def test_splits_are_read_in_the_order_train_val_test(
    float_bundle: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_quantization_source(float_bundle, phantom, 1) as opened:
        seen: list[str] = []
        assert isinstance(opened.dataset, ClassificationDataset)
        reader = opened.dataset.reader

        def read(sample: Sample):
            seen.append(sample.split)
            return reader(sample)

        watched = dataclasses.replace(opened, dataset=dataclasses.replace(opened.dataset, reader=read))
        outcome = quantize.quantize_source(watched, QuantizationOptions(max_drop=0.3, scheme="static"))
    assert outcome.chosen is not None
    order = [split for number, split in enumerate(seen) if number == 0 or seen[number - 1] != split]
    assert order == ["train", "val", "test"]


def test_a_bundle_needs_the_data_of_its_training(
    float_bundle: Path, phantom: Path, chest: ClassificationDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quantize", str(float_bundle), "--out", str(tmp_path / "a")]) == ErrorCode.CONFIG.exit_status
    assert "--data" in capsys.readouterr().err
    other = write(tmp_path / "other", dataclasses.replace(chest, samples=chest.samples[1:]))
    assert run(options(other, phantom, tmp_path / "b")) == ErrorCode.INTEGRITY.exit_status
    assert "chest" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_an_int8_bundle_is_not_quantized_again(float_bundle: Path, phantom: Path, tmp_path: Path) -> None:
    manifest = json.loads((float_bundle / "manifest.json").read_text())
    del manifest["digest"]
    again = tmp_path / "again"
    again.mkdir()
    for path in float_bundle.iterdir():
        (again / path.name).write_bytes(path.read_bytes())
    (again / "manifest.json").write_text(json.dumps({**manifest, "precision": "int8"}))
    assert run(options(again, phantom, tmp_path / "out")) == ErrorCode.UNSUPPORTED.exit_status


@pytest.mark.parametrize("wrong", [["--max-drop", "-1"], ["--max-drop", "nan"], ["--images", "64"]])
def test_options_that_cannot_be_are_refused(
    float_bundle: Path, phantom: Path, tmp_path: Path, wrong: list[str]
) -> None:
    assert run([*options(float_bundle, phantom, tmp_path / "out"), *wrong]) == ErrorCode.CONFIG.exit_status
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["foo", "dice"])
def test_a_metric_of_another_task_is_refused_before_any_work(
    float_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    def never(*given, **named):
        pytest.fail("something was done before the metric was refused")

    for work in ("write_bundle", "open_dataset"):
        monkeypatch.setattr(source, work, never)
    any_folder_is_a_run(monkeypatch)
    for given in ([str(float_bundle), "--data", "nowhere"], ["a/run"]):
        arguments = ["quantize", *given, "--out", str(tmp_path / "out"), "--metric", name]
        assert run(arguments) == ErrorCode.CONFIG.exit_status
        stderr = capsys.readouterr().err
        assert f"--metric: {name!r}" in stderr
    assert not list(tmp_path.iterdir())


def test_a_scheme_that_does_not_apply_is_refused_early(
    phantom: Path,
    chest: ClassificationDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(classification, "measure_reference", None)
    bundle = write(tmp_path / "convolutions", chest, convolutions().SerializeToString())
    assert run([*options(bundle, phantom, tmp_path / "out"), "--rung", "dynamic"]) == ErrorCode.UNSUPPORTED.exit_status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "E-" in line]
    assert line.startswith("gossamer: E-UNSUPPORTED: --scheme: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["convolutions"]


def test_mixed_precision_of_a_single_layer_does_not_apply(
    phantom: Path, chest: ClassificationDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write(tmp_path / "convolutions", chest, convolutions().SerializeToString())
    assert run([*options(bundle, phantom, tmp_path / "out"), "--rung", "mixed"]) == ErrorCode.UNSUPPORTED.exit_status
    assert "E-UNSUPPORTED: --scheme: " in capsys.readouterr().err


def test_where_smaller_is_better_it_worsens(
    float_bundle: Path,
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    losing(monkeypatch, 0.3)
    given = [*options(float_bundle, phantom, tmp_path / "int8"), "--metric", "brier", "--rung", "static"]
    assert run(given) == ErrorCode.VALUE.exit_status
    stderr = capsys.readouterr().err
    assert "brier worsens by 0.3000" in stderr
    assert "drop" not in stderr.replace("max_drop", "")


def test_an_export_that_fails_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given, **named):
        raise GossamerError(ErrorCode.INTEGRITY, "a.png", "1 of 9 decisions differ", "report it")

    any_folder_is_a_run(monkeypatch)
    monkeypatch.setattr(source, "write_bundle", fails)
    assert run(["quantize", "a/run", "--out", str(tmp_path / "out")]) == ErrorCode.INTEGRITY.exit_status
    stderr = capsys.readouterr().err
    assert "E-INTEGRITY: a.png: " in stderr
    assert "export" in stderr
    assert "1 of 9 decisions differ" in stderr


def test_every_stage_is_said_before_it_begins(
    float_bundle: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*options(float_bundle, phantom, tmp_path / "int8"), "--max-drop", "0.3", "--rung", "static"]
    assert run(given) == 0
    stages = (
        "reading the training data", "preparing 256 images", "validation split in float32", "static: calibrating",
        "validation split in int8", "static, ", "test split in float32 and", "all metrics of the test split",
        "timing calls", "comparing the bundle", "measuring the cost",
    )  # fmt: skip
    stderr = capsys.readouterr().err.replace("static: auroc", "static, auroc")
    found = [stderr.find(stage) for stage in stages]
    assert -1 not in found, dict(zip(stages, found, strict=True))
    assert found == sorted(found)


def test_a_folder_that_is_not_empty_is_refused(float_bundle: Path, phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert run(options(float_bundle, phantom, tmp_path)) == ErrorCode.OUTPUT.exit_status


def test_sequence_normalization_projects_first() -> None:
    size = {"image_size": (16, 24), "in_channels": 1, "num_classes": 3, "patch_size": 4}
    network = gossamer.create_model("vit_nano", attention="sequence_norm", **size).eval()
    other = make_weights_constant(network)
    assert other is not None
    assert other.config.attention.evaluation == "folded"  # type: ignore[attr-defined]
    assert make_weights_constant(other) is None
    images = torch.randn(2, 1, 16, 24)
    np.testing.assert_allclose(other(images).detach(), network(images).detach(), atol=1e-4)
    assert make_weights_constant(gossamer.create_model("vit_nano", **size)) is None


@pytest.mark.slow
def test_a_run_becomes_an_int8_bundle(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    out = tmp_path / "int8"
    given = ["--max-drop", "0.3", "--rung", "static", "--threads", "1", "--licence-data", "CC0"]
    assert run(["quantize", str(trained), "--out", str(out), *given]) == 0
    manifest = open_bundle(out, threads=1).manifest
    assert manifest.quantization is not None
    assert manifest.quantization["products_in_float32"] == []
    assert manifest.quantization["bytes"]["ratio"] < 0.35
    assert manifest.licence == {"weights": None, "data": "CC0"}
    assert manifest.preset == "vit_nano"


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        QuantizationOptions(scheme="int4")  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "scheme")


def test_a_limit_that_is_not_met_is_a_typed_error(
    float_bundle: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(monkeypatch, 0.3)
    with pytest.raises(LimitNotMetError) as caught:
        gossamer.quantize(float_bundle, tmp_path / "int8", data=phantom, scheme="static", threads=1)
    error = caught.value
    assert (error.code, error.outcome.chosen) == (ErrorCode.VALUE, None)
    assert [tried.loss.drop.value for tried in error.outcome.tried if tried.loss] == [0.3]
    assert json.loads(error.report.read_text())["met"] is False
    assert not (tmp_path / "int8").exists()
