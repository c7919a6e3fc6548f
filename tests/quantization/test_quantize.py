"""From a bundle in floating point to one in 8 bits, or to a report alone."""

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
from gossamer.quantization import accuracy_loss, quantize, source
from gossamer.quantization.source import make_weights_constant, open_quantization_source


def options(bundle: Path, data: Path, out: Path) -> list[str]:
    return ["quantize", str(bundle), "--data", str(data), "--out", str(out), "--threads", "1"]


def losing(monkeypatch: pytest.MonkeyPatch, *drops: float) -> None:
    """Every comparison finds the next of ``drops``; after the last, the last again."""
    left = list(drops)

    def paired(measure, groups, **rest):
        drop = left.pop(0) if len(left) > 1 else left[0]
        return 0.9, 0.9 - drop, Estimate(drop, drop, drop)

    monkeypatch.setattr(accuracy_loss, "measure_paired_drop", paired)


def a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that is no bundle is a run that classifies."""
    described = SimpleNamespace(task="classify", data="nowhere")
    monkeypatch.setattr(source, "RunFolder", lambda path: SimpleNamespace(read_config=lambda: described))


def test_a_bundle_becomes_one_in_8_bits(
    float_bundle: Path, phantom: Path, chest: ClassificationDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8"
    assert run([*options(float_bundle, phantom, out), "--max-drop", "0.2", "--sensitivities", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    bundle = open_bundle(out, threads=1)
    manifest, before = bundle.manifest, open_bundle(float_bundle, threads=1).manifest
    said = manifest.quantization
    assert said is not None
    assert (manifest.precision, said["rung"]) == ("int8", "dynamic")
    assert said["products_in_int8"] == {"MatMul": 2, "Gemm": 1}
    assert said["products_in_float32"] == ["stem"]
    assert sum(said["executed_by_onnxruntime_here"].values()) == 3
    assert said["validation"]["drop"]["value"] <= 0.2
    assert said["test"]["split"] == "test"
    assert said["bytes"]["int8"] == manifest.members["model.onnx"].bytes
    assert "float32" in said["speed"][0]
    assert (manifest.output, manifest.source, manifest.licence) == (before.output, before.source, before.licence)
    assert manifest.quality["auroc"]["value"] == pytest.approx(said["test"]["int8"], abs=1e-5)
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


def test_the_next_rung_is_taken_and_the_ends_are_kept(
    float_bundle: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(monkeypatch, 0.3, 0.1)
    out = tmp_path / "int8"
    assert run([*options(float_bundle, phantom, out), "--max-drop", "0.1", "--keep-ends", "--metric", "accuracy"]) == 0
    said = open_bundle(out, threads=1).manifest.quantization
    assert said is not None
    assert said["rung"] == "static"
    assert said["products_in_float32"] == ["stem", "head"]
    assert said["validation"]["metric"] == "accuracy"
    kinds = [node.op_type for node in onnx.load(out / "model.onnx").graph.node]
    assert "DynamicQuantizeLinear" not in kinds


def test_where_no_rung_does_nothing_is_written_but_the_report(
    float_bundle: Path,
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    losing(monkeypatch, 0.3)
    asked: list[str] = []
    judge = quantize.measure_reference
    monkeypatch.setattr(quantize, "measure_reference", lambda *given: asked.append(given[2]) or judge(*given))
    out = tmp_path / "deep" / "int8"
    assert run(options(float_bundle, phantom, out)) == ErrorCode.VALUE.exit_status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "E-VALUE" in line]
    assert "no rung keeps the drop of auroc within 0.005 (dynamic, 1 layer in floating point" in line
    assert "static: auroc drops by 0.3000" in line
    report = json.loads((out.with_name("int8.report") / "quantization.json").read_text())
    assert [path.name for path in out.parent.iterdir()] == ["int8.report"]
    assert (report["met"], report["quantization"]) == (False, None)
    assert {step["rung"] for step in report["steps"]} == {"dynamic", "static", "mixed"}
    assert report["steps"][-1]["kept"]
    assert len(report["sensitivities"]) == 4
    # The test split is for what was chosen, and nothing was.
    assert asked == ["val"]


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
        outcome = quantize.quantize_source(watched, quantize.QuantizationOptions(max_drop=0.3, rung="static"))
    assert outcome.result is not None
    order = [split for number, split in enumerate(seen) if number == 0 or seen[number - 1] != split]
    assert order == ["train", "val", "test"]


def test_a_bundle_needs_the_data_of_its_training(
    float_bundle: Path, phantom: Path, chest: ClassificationDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quantize", str(float_bundle), "--out", str(tmp_path / "a")]) == ErrorCode.CONFIG.exit_status
    assert "--data" in capsys.readouterr().err
    other = write(tmp_path / "other", dataclasses.replace(chest, samples=chest.samples[1:]))
    assert run(options(other, phantom, tmp_path / "b")) == ErrorCode.INTEGRITY.exit_status
    assert "are not those of chest" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_8_bits_are_not_quantized_again(float_bundle: Path, phantom: Path, tmp_path: Path) -> None:
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
    a_run(monkeypatch)
    for given in ([str(float_bundle), "--data", "nowhere"], ["a/run"]):
        wanted = ["quantize", *given, "--out", str(tmp_path / "out"), "--metric", name]
        assert run(wanted) == ErrorCode.CONFIG.exit_status
        said = capsys.readouterr().err
        assert f"--metric: {name!r} is no metric of classification" in said
        assert "use one of auroc, " in said
    assert not list(tmp_path.iterdir())


def test_a_rung_that_does_not_apply_is_refused_without_a_judgement(
    phantom: Path,
    chest: ClassificationDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(quantize, "measure_reference", None)
    bundle = write(tmp_path / "convolutions", chest, convolutions().SerializeToString())
    assert run([*options(bundle, phantom, tmp_path / "out"), "--rung", "dynamic"]) == ErrorCode.UNSUPPORTED.exit_status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "E-" in line]
    assert line.startswith("gossamer: E-UNSUPPORTED: --rung: dynamic does not apply: matrix products hold 0% of the")
    assert line.endswith("convolutions hold the rest; use --rung static")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["convolutions"]


def test_mixed_precision_of_a_single_layer_does_not_apply(
    phantom: Path, chest: ClassificationDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write(tmp_path / "convolutions", chest, convolutions().SerializeToString())
    assert run([*options(bundle, phantom, tmp_path / "out"), "--rung", "mixed"]) == ErrorCode.UNSUPPORTED.exit_status
    assert "--rung: mixed does not apply" in capsys.readouterr().err


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
    said = capsys.readouterr().err
    assert "the static rung does not keep the worsening of brier within 0.005 (static: brier worsens by 0.3000" in said
    assert "drops" not in said


def test_an_export_that_fails_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given, **named):
        raise GossamerError(ErrorCode.INTEGRITY, "a.png", "1 of 9 decisions differ", "report it")

    a_run(monkeypatch)
    monkeypatch.setattr(source, "write_bundle", fails)
    assert run(["quantize", "a/run", "--out", str(tmp_path / "out")]) == ErrorCode.INTEGRITY.exit_status
    said = capsys.readouterr().err
    assert "a.png: the export that quantizing a run begins with failed: 1 of 9 decisions differ; report it" in said


def test_every_stage_is_said_before_it_begins(
    float_bundle: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*options(float_bundle, phantom, tmp_path / "int8"), "--max-drop", "0.3", "--rung", "static"]
    assert run(given) == 0
    stages = (
        "reading the data", "preparing 256 images", "validation split in float32", "static: calibrating",
        "validation split in 8 bits", "static, ", "test split in float32 and", "all metrics of the test split",
        "timing calls", "comparing it with float32", "measuring its cost",
    )  # fmt: skip
    said = capsys.readouterr().err.replace("static: auroc", "static, auroc")
    found = [said.find(stage) for stage in stages]
    assert -1 not in found, dict(zip(stages, found, strict=True))
    assert found == sorted(found)


def test_a_folder_that_holds_something_is_refused_at_once(float_bundle: Path, phantom: Path, tmp_path: Path) -> None:
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
def test_a_run_becomes_a_bundle_in_8_bits(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_unknown_rungs_are_refused() -> None:
    with pytest.raises(GossamerError, match="no rung 'int4'"):
        quantize.QuantizationOptions(rung="int4")  # type: ignore[arg-type]
