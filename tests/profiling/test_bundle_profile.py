"""Cost of a bundle: measured, with method and machine, and without torch."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.inference.bundle import open_bundle
from gossamer.profiling.bundle import bundle_machine, measure_bundle
from gossamer.profiling.machine import process_memory, reset_peak_memory
from made_bundles import write_classifier


def test_every_figure_states_its_method(tmp_path: Path) -> None:
    bundle = open_bundle(write_classifier(tmp_path / "bundle"), threads=1)
    cost = measure_bundle(bundle, batch=3, seconds=0.05)
    assert cost["file"].value == (tmp_path / "bundle" / "model.onnx").stat().st_size
    assert 0 < cost["latency_p50"].value <= cost["latency_p95"].value  # type: ignore[operator]
    for words in ("onnxruntime", "batch 3 of 24x40", "1 threads"):
        assert words in cost["latency_p50"].detail
    memory = cost["peak_memory"]
    assert memory.how == ("measured" if process_memory() else "unavailable")
    # Python, numpy and ONNX Runtime; torch alone would be more.
    assert memory.value is None or 20e6 < memory.value < 200e6
    assert set(bundle_machine()["packages"]) <= {"gossamer", "numpy", "onnxruntime", "openvino"}


def test_measuring_needs_no_torch() -> None:
    code = "import gossamer.profiling.bundle, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_of_this_process() -> None:
    before = process_memory()
    if before is None:
        pytest.skip("this system does not report the memory of a process")
    reset_peak_memory()
    # New pages: an array might use memory that this process has freed before.
    pages = mmap.mmap(-1, 40_000_000)
    pages.write(b"1" * 40_000_000)
    held = process_memory()
    pages.close()
    after = process_memory()
    assert held is not None
    assert after is not None
    assert held.resident_bytes - before.resident_bytes > 30e6
    assert held.resident_bytes > after.resident_bytes
    assert after.peak_bytes > held.resident_bytes - 5e6  # the system counts in coarse steps
