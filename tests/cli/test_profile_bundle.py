"""``gossamer profile`` of a bundle: figures, engines, and the time of the stages of a prediction."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.main import run
from gossamer.files import read_json, write_json
from gossamer.inference import engines
from gossamer.inference.engines import Engine, load_engine
from gossamer.inference.manifest import MANIFEST
from gossamer.profiling import bundle as bundle_costs
from gossamer.profiling.figure import Figure
from gossamer.profiling.latency import Latency, measure_latencies, measure_latency
from made_bundles import write_classifier, write_inputs, write_segmenter


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a moment only."""
    monkeypatch.setattr(
        bundle_costs, "measure_latency", lambda call, **_: measure_latency(call, seconds=0.01, min_calls=2)
    )
    monkeypatch.setattr(
        bundle_costs, "measure_latencies", lambda calls, **_: measure_latencies(calls, seconds=0.01, min_rounds=2)
    )


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    capsys.readouterr()
    words = [str(argument) for argument in arguments]
    assert run(["profile", *words, "--threads", "1", "--json"]) == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_figures_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_classifier(tmp_path / "chest")
    found = answer(capsys, folder, "--engine", "onnxruntime", "--batch", 3)
    cost = found["cost"]
    assert cost["file"]["value"] == (folder / "model.onnx").stat().st_size
    assert 0 < cost["latency_p50"]["value"] <= cost["latency_p95"]["value"]
    assert "batch 3 of 24x40" in cost["latency_p50"]["detail"]
    assert cost["open"]["value"] > 0
    assert cost["energy"]["how"] in ("measured", "unavailable")
    assert "energy_modelled" not in cost  # this manifest does not say how many MACs a window takes
    assert (found["engine"], found["threads"], found["engines"], found["faster"]) == ("onnxruntime", 1, {}, None)
    assert "prediction" not in found


@pytest.mark.parametrize(("precision", "millijoules"), [("float32", 3 * 4.6e-9 * 2_000_000), ("int8", 3 * 460_000e-9)])
def test_energy_is_modelled_from_the_macs_of_the_manifest(
    precision: str, millijoules: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_classifier(tmp_path / "chest")
    manifest = read_json(folder / MANIFEST)
    del manifest["digest"]
    manifest["cost"] = {"macs": Figure(2_000_000, "MACs", "computed", "by hand").to_json()}
    write_json(folder / MANIFEST, {**manifest, "precision": precision})
    cost = answer(capsys, folder, "--engine", "onnxruntime", "--batch", 3)["cost"]
    assert cost["macs"]["value"] == 2_000_000
    assert cost["energy_modelled"]["how"] == "modelled"
    assert 1e3 * cost["energy_modelled"]["value"] == pytest.approx(millijoules)
    assert cost["energy"]["how"] != "modelled"


def test_stages_of_a_classifier_and_of_a_segmenter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, volumes = write_inputs(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for folder, paths, count in (
        (write_classifier(tmp_path / "chest"), pictures, 5),
        (write_segmenter(tmp_path / "organs"), volumes, 2),
    ):
        found = answer(capsys, folder, paths, "--engine", "onnxruntime")["prediction"]
        assert found["images"] == count
        assert list(found["stages"]) == ["read", "preprocess", "network", "postprocess", "write"]
        assert sum(stage["share"] for stage in found["stages"].values()) == pytest.approx(1)
    assert run(["profile", str(tmp_path / "organs"), str(volumes), "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert "postprocess" in text
    assert "2 inputs" in text
    kept = [path for path in sorted(tmp_path.rglob("*")) if not {"chest", "organs"} & set(path.parts)]
    assert kept == before


def test_an_image_that_fails_is_a_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, _ = write_inputs(tmp_path)
    (pictures / "3.png").write_bytes(b"no picture")
    found = answer(capsys, write_classifier(tmp_path / "chest"), pictures, status=65)
    assert [Path(error["path"]).name for error in found["prediction"]["errors"]] == ["3.png"]


def test_both_engines_take_turns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(model: bytes, where: Path, threads: int | None) -> Engine:
        return replace(load_engine("onnxruntime", model, where, threads), name="openvino", version="made")

    times = {"onnxruntime": Latency(6.0, 7.0, 15), "openvino": Latency(4.0, 9.0, 15)}
    monkeypatch.setattr(engines, "ENGINES", {"onnxruntime": engines.ENGINES["onnxruntime"], "openvino": other})
    monkeypatch.setattr(bundle_costs, "measure_latencies", lambda calls, **_: {name: times[name] for name in calls})
    folder = write_classifier(tmp_path / "chest")
    found = answer(capsys, folder)
    assert {name: cost["latency_p50"]["value"] for name, cost in found["engines"].items()} == {
        "onnxruntime": 6.0, "openvino": 4.0,
    }  # fmt: skip
    assert "openvino made" in found["engines"]["openvino"]["latency_p95"]["detail"]
    assert found["faster"] == "openvino"
    assert run(["profile", str(folder), "--threads", "1"]) == 0
    assert "1.50 times faster" in " ".join(capsys.readouterr().out.split())


def test_stages_of_a_run(
    trained: Path, phantom: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.profiling.network.measure_peak_memory", lambda *_, **__: None)
    found = answer(capsys, trained, phantom / "images")
    assert found["prediction"]["images"] == 60
    assert found["prediction"]["stages"]["network"]["seconds"] > 0
    assert found["cost"]["parameters"]["value"] > 1e6


def test_profiling_a_bundle_needs_no_torch(tmp_path: Path) -> None:
    pictures, _ = write_inputs(tmp_path)
    arguments = ["profile", str(write_classifier(tmp_path / "chest")), str(pictures), "--threads", "1"]
    code = (
        "import sys\n"
        "from gossamer.cli.main import run\n"
        f"status = run({arguments!r})\n"
        "print(sorted({'torch', 'jinja2', 'matplotlib', 'scipy', 'onnx'} & sys.modules.keys()))\n"
        "sys.exit(status)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["BUNDLE", "--attention", "sima", "--num-classes", "3"], "--attention"),
        (["BUNDLE", "--image-size", "64x64"], "--image-size"),
        (["BUNDLE", "--batch", "0"], "--batch"),
        (["vit_nano", "PICTURES"], "images"),
        (["vit_nano", "--engine", "onnxruntime"], "--engine"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    arguments: list[str], where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"BUNDLE": write_classifier(tmp_path / "chest"), "PICTURES": tmp_path}
    capsys.readouterr()
    assert run(["profile", *(str(names.get(word, word)) for word in arguments)]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gossamer: E-CONFIG: {where}: ")
