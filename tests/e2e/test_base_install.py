"""The base installation in an environment of its own: no torch, small, able to check data and evaluate bundles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from gossamer.cli.main import run
from gossamer.files import sha256_hexdigest
from gossamer.inference.manifest import MANIFEST, MODEL
from made_bundles import contents, write_classifier, write_inputs, write_segmenter

ROOT = Path(__file__).parents[2]
MOST_BYTES = 260 * 2**20


def write_int8(bundle: Path, out: Path) -> Path:
    """A bundle with the same network in 8 bits."""
    out.mkdir()
    quantize_dynamic(bundle / MODEL, out / MODEL, weight_type=QuantType.QUInt8)
    (out / "README.md").write_bytes((bundle / "README.md").read_bytes())
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest["digest"]
    data = (out / MODEL).read_bytes()
    manifest["members"][MODEL] = {"bytes": len(data), "sha256": sha256_hexdigest(data)}
    manifest["precision"] = "int8"
    (out / MANIFEST).write_text(json.dumps(manifest))
    return out


def write_organs(folder: Path) -> Path:
    """A data set of pictures with masks of two classes, and its classes."""
    from PIL import Image as PillowImage

    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    generator = np.random.default_rng(2)
    rows, columns = np.mgrid[:48, :56]
    for number in range(8):
        labels = np.zeros((48, 56), np.uint8)
        labels[np.hypot(rows - 14 - number, columns - 20) < 9] = 1
        labels[np.hypot(rows - 33, columns - 28 - number) < 11] = 2
        image = np.clip(70 * labels + generator.normal(50, 20, labels.shape), 0, 255).astype(np.uint8)
        PillowImage.fromarray(image).save(folder / "images" / f"{number}.png")
        PillowImage.fromarray(labels).save(folder / "masks" / f"{number}.png")
    (folder / "classes.json").write_text(json.dumps({"1": "liver", "2": "large bowel"}))
    return folder


def assert_equal_figures(found: Any, expected: Any, where: str = "") -> None:
    """Numbers are equal up to rounding, everything else exactly."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_equal_figures(found[key], value, f"{where}/{key}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-6), where
    else:
        assert found == expected, where


@pytest.mark.network
def test_the_base_runs_and_evaluates_bundles_without_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    install = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", str(ROOT / "requirements.lock"), str(ROOT)], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def gossamer(*arguments: str, status: int = 0) -> str:
        command = [str(binaries / "gossamer"), *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert finished.returncode == status, finished.stderr
        return finished.stdout if "--json" in arguments else finished.stdout + finished.stderr

    assert "train" in gossamer("--help")
    data = tmp_path / "data"
    gossamer("data", "phantom", str(data), "--count", "24", "--image-size", "16x16")
    assert json.loads(gossamer("data", "check", str(data), "--json"))["ok"]
    packages = json.loads(gossamer("doctor", "--json"))["packages"]
    assert packages["torch"] is None
    assert "[train]" in gossamer("train", str(data), status=78)
    pictures, volumes = write_inputs(tmp_path)
    classifier, segmenter = write_classifier(tmp_path / "classifier"), write_segmenter(tmp_path / "segmenter", stack=3)
    for bundle, inputs, name in ((classifier, pictures, "classes.csv"), (segmenter, volumes, "masks")):
        options = ("predict", str(bundle), str(inputs), "--threads", "1", "--out")
        gossamer(*options, str(tmp_path / f"base-{name}"))
        assert run([*options, str(tmp_path / f"here-{name}")]) == 0
        assert contents(tmp_path / f"base-{name}") == contents(tmp_path / f"here-{name}")
    assert "openvino" in gossamer("predict", str(classifier), str(pictures), "--engine", "openvino", status=78)

    two = write_classifier(tmp_path / "two", ("clear", "nodule"), stored=None, high=4095)
    flat = write_segmenter(tmp_path / "flat")
    organs = write_organs(tmp_path / "organs")
    for bundle, labelled in ((two, data), (flat, organs)):
        for model in (bundle, write_int8(bundle, tmp_path / f"{bundle.name}-int8")):
            arguments = ["evaluate", str(model), str(labelled), "--split", "all", "--threads", "1", "--json"]
            found = json.loads(gossamer(*arguments))
            capsys.readouterr()
            assert run(arguments) == 0
            assert_equal_figures(found, json.loads(capsys.readouterr().out))
    assert {"dice", "hd95", "surface_dice"} <= found["metrics"].keys()
    size = sum(
        path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert size < MOST_BYTES
