"""The runtime never imports torch, nor anything else that the base installation leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gossamer.inference

MODULES = sorted(path.stem for path in Path(gossamer.inference.__file__).parent.glob("*.py") if path.stem != "__init__")
ABSENT = {
    "torch", "lightning", "monai", "torchmetrics", "safetensors", "scipy", "onnx", "onnxscript", "matplotlib",
    # Engines are imported when they are used: what only decides or cuts windows goes without.
    "onnxruntime", "openvino",
}  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_the_runtime_is_imported_without_torch(module: str) -> None:
    code = f"import sys, gossamer.inference.{module}\nprint(sorted({ABSENT!r} & sys.modules.keys()))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stdout.strip() == "[]", finished.stderr
