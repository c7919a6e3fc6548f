"""A mechanism of a user on the command line: trained, evaluated, exported, and predicted with without its file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jaxtyping
import pytest

from gossamer.cli.main import run
from gossamer.training.run_folder import RunFolder

pytestmark = pytest.mark.slow
LINEAR = Path(__file__).parents[1] / "made_mechanisms" / "linear.py"


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(LINEAR, tmp_path_factory.mktemp("mechanism")))


@pytest.fixture(scope="module")
def trained_linear(phantom: Path, linear: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "linear"
    options = ["--model", "vit_nano", "--epochs", "1", "--precision", "float32", "--threads", "1"]
    described = json.dumps({"name": str(linear), "offset": 1.5})
    assert run(["train", str(phantom), "--attention", described, "--out", str(folder), *options]) == 0
    return folder


def test_the_config_of_the_run_names_file_and_parameters(trained_linear: Path, linear: Path) -> None:
    attention = RunFolder(trained_linear).read_config().model.attention  # type: ignore[attr-defined]
    assert (attention.name, attention.offset) == ("linear", 1.5)
    assert f"{linear.resolve()}:LinearConfig" in (trained_linear / "config.yaml").read_text()


def test_the_run_is_evaluated(trained_linear: Path, phantom: Path, tmp_path: Path) -> None:
    assert run(["evaluate", str(trained_linear), str(phantom), "--out", str(tmp_path / "evaluation")]) == 0


def test_other_weights_are_converted_to_it(trained: Path, phantom: Path, linear: Path, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    options = ["--init", str(trained), "--attention", str(linear), "--epochs", "1", "--precision", "float32"]
    assert run(["train", str(phantom), "--out", str(folder), "--threads", "1", *options]) == 0
    assert RunFolder(folder).read_config().model.attention.name == "linear"  # type: ignore[attr-defined]


def test_its_costs_are_profiled(linear: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--attention", str(linear), "--image-size", "32x32", "--threads", "1", "--json"]
    assert run(["profile", "vit_nano", *options]) == 0
    assert json.loads(capsys.readouterr().out)


def test_a_bundle_needs_no_file(
    trained_linear: Path, phantom: Path, linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run-time checks of shapes are Python that an exporter cannot trace.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    bundle, image = tmp_path / "bundle", next(phantom.rglob("*.png"))
    licences = ["--licence-weights", "CC0-1.0", "--licence-data", "CC0-1.0"]
    assert run(["export", str(trained_linear), "--out", str(bundle), *licences]) == 0
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["attention"] == "linear"
    for file in bundle.iterdir():
        assert str(linear.parent).encode() not in file.read_bytes()
    moved = linear.rename(linear.with_suffix(".moved"))
    try:
        assert run(["predict", str(bundle), str(image), "--out", str(tmp_path / "predictions.csv")]) == 0
        assert run(["evaluate", str(trained_linear), str(phantom), "--out", str(tmp_path / "evaluation")]) == 66
    finally:
        moved.rename(linear)
