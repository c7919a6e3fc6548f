"""Imports inside of functions: each has a reason."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from house_counts import count_tree  # noqa: E402

SOURCE = ROOT / "src" / "gossamer"
MOST = 45
VERB = "a verb imports its function when it runs, so that help needs no PyTorch"
REASONS: dict[str, str] = {
    "__init__.py: importlib": "public names are loaded when they are first used",
    "api/attention_checks.py: onnxruntime": "only the check of the export needs it",
    "api/environment.py: torch": "bundles run without it",
    "api/load.py: gossamer.training.run_predictor": "only runs need PyTorch, bundles do not",
    "api/profile.py: gossamer.api.network_profile": "only runs and presets need PyTorch, bundles do not",
    "cli/check_attention.py: gossamer.api": VERB,
    "cli/compare.py: gossamer.api": VERB,
    "cli/data.py: gossamer.api.check_data": VERB,
    "cli/data.py: gossamer.api.draw_phantom": VERB,
    "cli/demo.py: gossamer.api.demo": VERB,
    "cli/doctor.py: gossamer.api.doctor": VERB,
    "cli/evaluate.py: gossamer.api.evaluate": VERB,
    "cli/export.py: gossamer.api.export": VERB,
    "cli/import_weights.py: gossamer.api.import_weights": VERB,
    "cli/main.py: gossamer.profiling.machine": "slow to load, and only one error needs it",
    "cli/models.py: gossamer.api.models": VERB,
    "cli/plan.py: gossamer.api.plan": VERB,
    "cli/predict.py: gossamer.api.predict": VERB,
    "cli/profile.py: gossamer.api.profile": VERB,
    "cli/quantize.py: gossamer.api.quantize": VERB,
    "cli/train.py: gossamer.api": VERB,
    "comparison/lock.py: fcntl": "does not exist on Windows",
    "config.py: pydantic": "takes a tenth of a second, and most commands read no configuration",
    "data/io/hdf5.py: h5py": "optional package",
    "data/io/nifti.py: nibabel.nifti1": "slow to load, and pictures do not need it",
    "data/io/nifti.py: nibabel.nifti2": "slow to load, and pictures do not need it",
    "data/io/nifti_header.py: nibabel.nifti1": "slow to load, and pictures do not need it",
    "data/io/nifti_header.py: nibabel.nifti2": "slow to load, and pictures do not need it",
    "data/io/png.py: png": "only 16-bit colour needs it",
    "data/io/tiff.py: tifffile": "slow to load, and other formats do not need it",
    "inference/engines.py: onnxruntime": "slow to load, and runs do not need it",
    "inference/engines.py: openvino": "optional package",
    "nn/models/monai_swin_unetr.py: monai.networks.nets.swin_unetr": "slow to load, and other networks do not need it",
    "nn/models/monai_unet.py: monai.networks.nets.unet": "slow to load, and other networks do not need it",
    "pretrained/unpickle.py: safetensors.torch": "imported in a child process after its limits are set",
    "pretrained/unpickle.py: torch": "imported in a child process after its limits are set",
    "profiling/energy.py: pynvml": "optional package",
    "training/options.py: pydantic": "takes a tenth of a second, which help would pay",
}
"""For ``file: imported module``, why the import is not at the top of the file."""


def deferred_imports() -> set[str]:
    """Return ``file: imported module`` for each import inside of a function."""
    found = set()
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.ImportFrom):
                        found.add(f"{name}: {inner.module}")
                    elif isinstance(inner, ast.Import):
                        found |= {f"{name}: {alias.name}" for alias in inner.names}
    return found


def test_every_deferred_import_has_a_reason() -> None:
    assert deferred_imports() == set(REASONS)


def test_deferred_imports_are_few() -> None:
    places, _ = count_tree(SOURCE)["imports"]
    assert len(places) <= MOST
