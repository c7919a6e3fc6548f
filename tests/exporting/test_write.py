"""A run becomes a bundle with the same results, or nothing is written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose

import gossamer.exporting.write
from gossamer.checkpoint import load_model
from gossamer.cli.main import run as command
from gossamer.data import open_dataset
from gossamer.data.synthetic.phantom import write_phantom
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.tasks import bundle_predictor
from gossamer.progress import SilentProgress
from gossamer.training.run_folder import RunFolder


class CollectedMessages(SilentProgress):
    """Progress that collects its messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def show_message(self, text: str) -> None:
        self.texts.append(text)


def test_the_manifest_states_the_facts_of_the_run(trained: Path, exported: Path) -> None:
    bundle = open_bundle(exported, threads=1)
    found, run = bundle.manifest, RunFolder(trained).read_config()
    summary = json.loads((trained / "summary.json").read_text())
    assert (found.task, found.preset, found.attention, found.precision) == (
        "classify",
        "vit_nano",
        "sequence_norm",
        "float32",
    )
    assert (found.input.channels, found.input.window) == (run.model.in_channels, run.model.image_size)
    assert (found.input.dynamic, found.input.stored) == (True, "uint16")
    assert found.input.multiple == run.model.input_requirements.multiple
    assert (found.output.classes, found.output.multi_label) == (run.classes, False)
    assert bundle_predictor(bundle).thresholds == RunFolder(trained).read_thresholds(run)
    assert bundle_predictor(bundle).preprocessing.steps == run.preprocessing.steps
    for name, estimate in summary["metrics"].items():
        assert found.quality[name] == {**estimate, "trivial": summary["trivial"][name]}
    assert found.source["samples"] == summary["splits"]
    assert (found.source["fingerprint"], found.source["seed"]) == (run.data_fingerprint, run.seed)
    assert found.licence == {"weights": None, "data": "public domain"}
    assert found.parity is not None
    assert 0 <= found.parity.probabilities <= found.parity.tolerance == 1e-4  # type: ignore[operator]
    assert found.cost["latency_p50"]["value"] > 0
    assert found.cost["peak_memory"]["value"] > found.cost["file"]["value"] > 0
    assert "onnxruntime" in found.cost["machine"]["packages"]


def test_nothing_of_this_machine_is_in_the_bundle(trained: Path, exported: Path) -> None:
    for path in exported.iterdir():
        content = path.read_bytes()
        for trace in (str(trained), str(Path.cwd()), "site-packages", ".py", "stack_trace", "pkg."):
            assert trace.encode() not in content, (path.name, trace)
    model = onnx.load(exported / "model.onnx")
    assert len(model.graph.value_info) == 0
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    sides = [side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "", "rows", "columns"]


def test_the_card_is_there(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {"model.onnx", "manifest.json", "README.md"}
    assert "# vit_nano with sequence_norm attention, float32" in (exported / "README.md").read_text()


def test_an_existing_bundle_is_not_overwritten(
    exported: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["export", str(trained), "--out", str(exported)]) == ErrorCode.OUTPUT.exit_status
    assert f"E-OUTPUT: {exported}: " in capsys.readouterr().err


@pytest.mark.usefixtures("traceable")
def test_a_segmenter_of_volumes(untrained_segmenter: Path, tmp_path: Path) -> None:
    messages = CollectedMessages()
    manifest = gossamer.exporting.write.write_bundle(
        untrained_segmenter, tmp_path / "new" / "bundle", licence_weights="ours", threads=1, progress=messages
    )
    bundle = open_bundle(tmp_path / "new" / "bundle", threads=1)
    assert dataclasses.replace(manifest) == bundle.manifest
    assert (manifest.input.channels, manifest.input.stack, manifest.input.window) == (1, 3, (32, 48))
    assert manifest.output.multi_label
    assert manifest.parity is not None
    assert (manifest.parity.images, manifest.parity.decisions) == (1, 1.0)
    assert manifest.source["evaluated"] == "val"
    assert manifest.quality["hd95"] == {"value": 4.0, "low": None, "high": None, "trivial": None}
    assert len(messages.texts) == 3
    windows = np.random.default_rng(0).normal(size=(2, 3, 32, 48)).astype(np.float32)
    with torch.no_grad():
        expected = load_model(untrained_segmenter)(torch.from_numpy(windows)).numpy()
    assert_allclose(bundle.compute_logits(windows), expected, atol=1e-4)


@pytest.mark.usefixtures("traceable")
def test_a_graph_with_other_weights_is_refused(
    trained: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(exported / "model.onnx")
    for weight in model.graph.initializer:
        if weight.name == "classifier.bias":
            changed = onnx.numpy_helper.to_array(weight) + np.array([0.01, 0.0], np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    monkeypatch.setattr(gossamer.exporting.write, "export_onnx", lambda network: model.SerializeToString())
    out = tmp_path / "not" / "there"
    assert command(["export", str(trained), "--out", str(out), "--threads", "1"]) == ErrorCode.INTEGRITY.exit_status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gossamer: ")]
    samples = open_dataset(RunFolder(trained).read_config().data, task="classify").split("val")
    assert any(f"E-INTEGRITY: {sample.id}: " in line for sample in samples)
    assert "stage: network" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["config.yaml", "summary.json", "model.safetensors"])
def test_an_incomplete_run_is_refused(trained: Path, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    (copy / missing).unlink()
    with pytest.raises(GossamerError) as caught:
        gossamer.exporting.write.write_bundle(copy, tmp_path / "out")
    assert caught.value.code is ErrorCode.MISSING
    assert not (tmp_path / "out").exists()


def test_missing_data_are_an_error(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        gossamer.exporting.write.write_bundle(trained, tmp_path / "out", data=tmp_path / "elsewhere")
    assert (caught.value.code, caught.value.where) == (ErrorCode.MISSING, str(tmp_path / "elsewhere"))
    assert not (tmp_path / "out").exists()


def test_data_that_changed_are_refused(trained: Path, phantom: Path, tmp_path: Path) -> None:
    changed = tmp_path / "chest"
    shutil.copytree(phantom, changed)
    next(path for path in sorted(changed.rglob("*.png"))).unlink()
    with pytest.raises(GossamerError) as caught:
        gossamer.exporting.write.write_bundle(trained, tmp_path / "out", data=changed)
    assert caught.value.code in (ErrorCode.INTEGRITY, ErrorCode.MISSING)


def test_the_bundle_gives_the_logits_of_the_network(trained: Path, exported: Path) -> None:
    bundle: Bundle = open_bundle(exported, threads=1)
    network = load_model(trained)
    images = np.random.default_rng(1).normal(size=(5, 1, *network.config.image_size)).astype(np.float32)
    with torch.no_grad():
        assert_allclose(bundle.compute_logits(images), network(torch.from_numpy(images)).numpy(), atol=1e-5)


def test_data_of_another_run_are_told_apart(trained: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "other", count=24, size=(24, 40), seed=5)
    with pytest.raises(GossamerError) as caught:
        gossamer.exporting.write.write_bundle(trained, tmp_path / "out", data=tmp_path / "other")
    assert caught.value.code is ErrorCode.INTEGRITY
    run = RunFolder(trained).read_config()
    assert run.data_fingerprint[:12] in caught.value.problem
    assert Path(run.data).name in caught.value.remedy
