"""A pickle, read in a process of its own that has little time, little memory and, where the kernel allows, no network.

None of this is a boundary (docs/decisions/0002-no-pickle.md): it turns mistakes and crude attacks into one line, and
keeps a crash out of this process. The child hands back a safetensors file; nothing of the pickle is read here.
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
"""Of the whole child; its processor time is limited to as much."""
SPARE_BYTES = 1 << 30
COPIES = 4
"""The child may take ``SPARE_BYTES`` and this many times the file: data, storages, tensors, result."""
TENSORS, VERDICT = "tensors.safetensors", "verdict.json"

_CHILD = Path(__file__).with_name("unpickle.py")
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")
"""What the child sees of ours: nothing that could be a secret."""
_MAX_VERDICT_BYTES = 1 << 16


def read_pickle(data: bytes, path: Path, seconds: float = SECONDS) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a pickled state dict, and what was done to reach them.

    Args:
        data: the whole file.
        path: where it came from, for errors.
        seconds: after which the child is ended.

    Raises:
        GossamerError: ``E-SECURITY`` where it holds more than tensors or the child broke a limit, ``E-TRUNCATED`` or
            ``E-FORMAT`` where it cannot be read, ``E-UNSUPPORTED`` on a system without limits of processes.
    """
    if importlib.util.find_spec("resource") is None:
        problem = "a pickle is only read where a process can be limited, which this system cannot do"
        raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, "convert it to safetensors elsewhere")
    try:
        with tempfile.TemporaryDirectory(prefix="gossamer-") as name:
            folder = Path(name)
            status = _run(data, folder, path, seconds)
            return _result(folder, status, path, 2 * len(data) + _MAX_VERDICT_BYTES)
    except OSError as error:
        raise from_os_error(error, tempfile.gettempdir()) from error


def _run(data: bytes, folder: Path, path: Path, seconds: float) -> int:
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


def _result(folder: Path, status: int, path: Path, limit: int) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return what the child wrote, believing none of it."""
    died = GossamerError(
        ErrorCode.SECURITY,
        path,
        f"the process that read it ended with status {status}, out of its limits of time or memory",
        "do not use it, or convert it to safetensors where it was made",
    )
    verdict = _read_verdict(folder)
    if verdict is None:
        raise died
    if "code" in verdict:
        code = {"truncated": ErrorCode.TRUNCATED, "format": ErrorCode.FORMAT}.get(
            str(verdict["code"]), ErrorCode.SECURITY
        )
        remedy = (
            "use a file of tensors alone, as safetensors" if code is ErrorCode.SECURITY else "copy or download it again"
        )
        if isinstance(inner := verdict.get("inner"), str):
            remedy = f"save its [{inner[:40]!r}] alone, as a file of its own"
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
