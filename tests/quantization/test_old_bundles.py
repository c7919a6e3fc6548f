"""Bundles and runs of version 0.1.0 open, predict the same, and are profiled, quantized and exported as before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

import gossamer
from gossamer.inference.bundle import open_bundle

OLD = Path(__file__).parents[1] / "data" / "compat010"
EXPECTED = json.loads((OLD / "expected.json").read_text())["artefacts"]
CLASSIFIERS = ("classification_bundle", "classification_bundle_int8", "multi_label_bundle")
SEGMENTERS = ("segmentation_bundle", "segmentation_bundle_int8", "volumes_bundle")


def key_tree(value: Any) -> Any:
    """Return the keys of nested mappings, without the values."""
    return {key: key_tree(item) for key, item in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_old_classifiers_predict_the_same(name: str) -> None:
    predictor = gossamer.load(OLD / name, threads=1)
    for expected in EXPECTED[name]["predict"]["predictions"]:
        found = predictor.predict(OLD / expected["path"]).to_dict()
        assert found["prediction"] == expected["prediction"]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_old_segmenters_predict_the_same(name: str, tmp_path: Path) -> None:
    expected = EXPECTED[name]["predict"]
    paths = list(dict.fromkeys(OLD / row["path"] for row in expected["sizes"]))
    found = gossamer.predict(OLD / name, paths, out=tmp_path / "masks", threads=1).to_dict()
    sizes = {(Path(row["path"]).name, row["class"]): (row["size"], row["unit"]) for row in found["sizes"]}
    assert sizes == {
        (Path(row["path"]).name, row["class"]): (pytest.approx(row["size"], rel=1e-3, abs=1), row["unit"])
        for row in expected["sizes"]
    }


@pytest.mark.parametrize("name", ["classification_bundle_int8", "volumes_bundle"])
def test_old_bundles_are_profiled(name: str) -> None:
    predicted = EXPECTED[name]["predict"]
    rows = predicted.get("predictions") or predicted["sizes"]
    found = gossamer.profile(OLD / name, OLD / rows[0]["path"], engine="onnxruntime", threads=1)
    assert found.cost["file"].value == (OLD / name / "model.onnx").stat().st_size
    assert found.prediction is not None
    assert (found.prediction.images, found.prediction.errors) == (1, ())


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("source", ["bundle", pytest.param("run", marks=pytest.mark.slow)])
def test_quantization_gives_the_same_report(
    source: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    old = json.loads((OLD / f"{task}_bundle_int8.report" / "quantization.json").read_text())
    result = gossamer.quantize(
        OLD / f"{task}_{source}",
        tmp_path / "int8",
        data=OLD / "data" / task,
        scheme="static",
        max_drop=1,
        weight_bits=7 if old["options"]["scheme"]["reduce_range"] else 8,
        threads=1,
    )
    new = json.loads((tmp_path / "int8.report" / "quantization.json").read_text())
    assert key_tree(new) == key_tree(old)
    assert new["options"] == old["options"]
    assert new["calibration"] == old["calibration"]
    (found,), (expected,) = new["steps"], old["steps"]
    assert (found["rung"], found["kept"]) == (expected["rung"], expected["kept"])
    if source == "run":  # the source of the old report; in a bundle, some products have no constant weights
        assert (found["bytes"], found["proof"]["quantized"]) == (expected["bytes"], expected["proof"]["quantized"])
    loss, expected_loss = found["comparison"], expected["comparison"]
    assert (loss["metric"], loss["samples"], loss["groups"]) == ("auroc" if task == "classification" else "dice",
        expected_loss["samples"], expected_loss["groups"])  # fmt: skip
    assert loss["float32"] == pytest.approx(expected_loss["float32"], abs=1e-5)
    assert loss["int8"] == pytest.approx(expected_loss["int8"], abs=0.02)
    manifest = open_bundle(OLD / f"{task}_bundle_int8", threads=1).manifest
    assert (result.manifest.input, result.manifest.output) == (manifest.input, manifest.output)
    assert set(result.manifest.quantization or ()) == set(manifest.quantization or ())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_an_old_run_is_exported_as_before(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.chdir(OLD)  # the config of a run has a relative path of its data
    found = gossamer.export(f"{task}_run", tmp_path / "bundle", threads=1).manifest
    expected = open_bundle(OLD / f"{task}_bundle", threads=1).manifest
    for field in ("task", "preset", "attention", "precision", "input", "output", "preprocessing", "layout", "quality"):
        assert getattr(found, field) == getattr(expected, field), field
    assert found.source == expected.source
    assert found.cost["macs"] == expected.cost["macs"]
    assert found.parity is not None
    assert expected.parity is not None
    assert dataclasses.replace(found.parity, logits=0, probabilities=0) == dataclasses.replace(
        expected.parity, logits=0, probabilities=0
    )
