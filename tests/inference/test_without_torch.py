"""Inference, evaluation and their functions in the API import nothing that the base installation leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gossamer

ROOT = Path(gossamer.__file__).parent
MODULES = [
    *(
        f"gossamer.{package}.{path.stem}"
        for package in ("inference", "evaluation")
        for path in sorted((ROOT / package).glob("*.py"))
        if path.stem != "__init__"
    ),
    *(f"gossamer.api.{name}" for name in ("load", "predict", "evaluate")),
]
ABSENT = {
    "torch", "lightning", "monai", "torchmetrics", "safetensors", "scipy", "onnx", "onnxscript", "matplotlib", "jinja2",
    # Engines are imported when they are used: whatever only decides or cuts windows does not need them.
    "onnxruntime", "openvino",
}  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_imported_without_torch(module: str) -> None:
    code = f"import sys, {module}\nprint(sorted({ABSENT!r} & sys.modules.keys()))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stdout.strip() == "[]", finished.stderr
