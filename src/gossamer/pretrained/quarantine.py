"""Reading of a pickle in a separate process with little time, little memory and, if the kernel allows, no network.

None of this is a security boundary (docs/decisions/0002-no-pickle.md): it turns mistakes and crude attacks into one
line, and keeps a crash out of this process. The child returns a safetensors file; nothing of the pickle is read here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError, from_os_error

SECONDS = 120.0
"""Time limit of the child, for elapsed time and for CPU time."""
SPARE_BYTES = 1 << 30
COPIES = 4
"""The child may allocate ``SPARE_BYTES`` plus this many times the file: data, storages, tensors, result."""
TENSORS, VERDICT = "tensors.safetensors", "verdict.json"

_CHILD = Path(__file__).with_name("unpickle.py")
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")
"""Environment variables that the child receives: none that could be a secret."""
_MAX_VERDICT_BYTES = 1 << 16


def read_pickle(data: bytes, path: Path, seconds: float = SECONDS) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a pickled state dict, and notes on how they were found.

    Args:
        data: Content of the file.
        path: Path of the file, for errors.
        seconds: Time after which the child is killed.

    Raises:
        GossamerError: ``E-SECURITY`` if it holds more than tensors or the child exceeded a limit; ``E-TRUNCATED`` or
            ``E-FORMAT`` if it cannot be read; ``E-UNSUPPORTED`` on a system that cannot limit processes.
    """
    if importlib.util.find_spec("resource") is None:
        problem = "is a pickle, which is only read on systems that can limit a process"
        raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, "convert it to safetensors elsewhere")
    try:
        with tempfile.TemporaryDirectory(prefix="gossamer-") as name:
            folder = Path(name)
            status = _run_child(data, folder, path, seconds)
            return _read_result(folder, status, path, 2 * len(data) + _MAX_VERDICT_BYTES)
    except OSError as error:
        raise from_os_error(error, tempfile.gettempdir()) from error


def _run_child(data: bytes, folder: Path, path: Path, seconds: float) -> int:
    """Return the exit status of the child."""
    limits = json.dumps({"seconds": int(seconds) + 1, "bytes": SPARE_BYTES + COPIES * len(data)})
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    child = subprocess.Popen(  # noqa: S603  our own interpreter, our own file, and two numbers
        [sys.executable, "-P", str(_CHILD), limits],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        child.communicate(data, timeout=seconds)
    except BaseException as error:  # an interrupt too must not leave it behind
        os.killpg(child.pid, signal.SIGKILL)  # it leads a group of its own
        child.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        problem = f"was not read within {seconds:g} seconds"
        raise GossamerError(ErrorCode.SECURITY, path, problem, "do not use it, or convert it elsewhere") from error
    return child.returncode


def _read_result(folder: Path, status: int, path: Path, limit: int) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the result that the child wrote, trusting none of it."""
    died = GossamerError(
        ErrorCode.SECURITY,
        path,
        f"the process that read it exceeded its limits of time or memory (status {status})",
        "do not use it, or convert it to safetensors where it was written",
    )
    verdict = _read_verdict(folder)
    if verdict is None:
        raise died
    if "code" in verdict:
        code = {"truncated": ErrorCode.TRUNCATED, "format": ErrorCode.FORMAT}.get(
            str(verdict["code"]), ErrorCode.SECURITY
        )
        remedy = (
            "use a file with tensors only, as safetensors"
            if code is ErrorCode.SECURITY
            else "copy or download it again"
        )
        if isinstance(inner := verdict.get("inner"), str):
            remedy = f"save its [{inner[:40]!r}] alone, as a separate file"
        raise GossamerError(code, path, str(verdict.get("problem", "cannot be read"))[:200], remedy)
    tensors = folder / TENSORS
    if not tensors.is_file() or tensors.is_symlink() or tensors.stat().st_size > limit:
        raise died
    try:
        notes = tuple(str(note)[:200] for note in verdict.get("notes", ()))
        return safetensors.torch.load(tensors.read_bytes()), notes
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise died from error


def _read_verdict(folder: Path) -> dict[str, Any] | None:
    file = folder / VERDICT
    if not file.is_file() or file.is_symlink() or file.stat().st_size > _MAX_VERDICT_BYTES:
        return None
    try:
        verdict = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    return verdict if isinstance(verdict, dict) else None
