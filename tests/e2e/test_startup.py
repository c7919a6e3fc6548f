"""Help is fast, and neither help nor reading data needs torch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from gossamer.errors import install_hint
from made_bundles import contents, write_classifier, write_inputs, write_segmenter

# An environment without torch: importing one of these raises an ImportError.
WITHOUT = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"
HEAVY = (
    "torch",
    "lightning",
    "monai",
    "torchmetrics",
    "safetensors",
    "matplotlib",
    "jinja2",
    "jaxtyping",
    "imagecodecs",
    "scipy",
    "onnx",
    "onnxscript",
    "openvino",
    "einops",
    "h5py",
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_and_data_without_torch(phantom: Path, tmp_path: Path) -> None:
    block = WITHOUT.format(names=HEAVY)
    for arguments in (
        ["--help"], ["--version"], ["train", "--help"], ["data", "check", str(phantom)], ["doctor"],
        ["data", "phantom", str(tmp_path / "p"), "--count", "20", "--image-size", "16x16"],
    ):  # fmt: skip
        finished = python(f"{block}from gossamer.cli.main import run\nsys.exit(run({arguments!r}))")
        assert finished.returncode == 0, finished.stderr
    finished = python(f"{block}import gossamer, gossamer.data\nprint(gossamer.open_dataset({str(phantom)!r}).classes)")
    assert finished.stdout.strip() == "('clear', 'nodule')", finished.stderr


def test_bundle_predicts_without_torch(tmp_path: Path) -> None:
    """The files are those of the training environment, byte for byte."""
    from gossamer.cli.main import run

    pictures, volumes = write_inputs(tmp_path)
    bundles = {
        "classes.csv": (write_classifier(tmp_path / "classifier"), pictures),
        "masks": (write_segmenter(tmp_path / "segmenter", stack=3), volumes),
    }
    for name, (bundle, inputs) in bundles.items():
        here, there = tmp_path / f"here-{name}", tmp_path / f"there-{name}"
        options = ["predict", str(bundle), str(inputs), "--threads", "1", "--out"]
        assert run([*options, str(here)]) == 0
        block = WITHOUT.format(names=HEAVY)
        finished = python(f"{block}from gossamer.cli.main import run\nsys.exit(run({[*options, str(there)]!r}))")
        assert finished.returncode == 0, finished.stderr
        assert contents(there) == contents(here)
    arguments = [str(tmp_path / "classifier"), str(pictures), "--engine", "openvino"]
    finished = python(f"{block}from gossamer.cli.main import run\nsys.exit(run({['predict', *arguments]!r}))")
    assert finished.returncode == 78
    assert install_hint("openvino") in finished.stderr


def test_verb_that_needs_torch_shows_the_install_command(phantom: Path) -> None:
    code = (
        "import importlib.util, sys\nfound = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torch' else found(name, *a)\n"
        f"from gossamer.cli.main import run\nsys.exit(run(['train', {str(phantom)!r}]))"
    )
    finished = python(code)
    assert finished.returncode == 78
    assert install_hint("train") in finished.stderr


def test_help_takes_less_than_half_a_second() -> None:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "gossamer", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    # The best of five excludes the load of other processes.
    assert min(times) < 0.5


def test_data_does_not_import_torch() -> None:
    finished = python(
        "import sys, gossamer.data, gossamer.cli.main\nprint(sorted({'torch', 'lightning'} & set(sys.modules)))"
    )
    assert finished.stdout.strip() == "[]", finished.stderr
