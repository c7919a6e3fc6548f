"""The child process of ``quarantine``: the only place of the package where a pickle is read.

It runs as a script, imports nothing of the package, receives the pickle on its standard input, and writes the result
into its working folder: ``tensors.safetensors`` and ``verdict.json``.
"""

from __future__ import annotations

import ctypes
import io
import json
import re
import resource
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_WRAPPERS = ("model", "state_dict", "model_state_dict")
_UNEXPECTED = re.compile(r"GLOBAL ([\w.]+)")
_OTHER_WRITER = "Unsupported operand"
_ENDS_EARLY = ("eof", "ran out of input", "central directory", "truncated", "unexpected pos")


def main() -> None:
    """Read standard input and write the verdict."""
    limits = json.loads(sys.argv[1])
    _leave_the_network()
    import safetensors.torch
    import torch

    torch.set_num_threads(1)
    data = sys.stdin.buffer.read()
    _limit_process(limits["seconds"], limits["bytes"])
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        tensors, notes = _unwrap_state_dict(found)
        problem, inner = _describe_foreign(tensors), _find_inner_key(tensors)
        if problem is None:
            plain = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
            safetensors.torch.save_file(plain, "tensors.safetensors")
    except Exception as error:  # whatever a file of others may cause
        _write_verdict(_describe_failure(error))
    else:
        _write_verdict(
            {"notes": notes} if problem is None else {"code": "security", "problem": problem, "inner": inner}
        )


def _leave_the_network() -> None:
    """Move into an empty network namespace, if the kernel allows it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)


def _limit_process(seconds: int, memory: int) -> None:
    """Limit this process after its imports, which are trusted and take more address space than memory."""
    statm = Path("/proc/self/statm")
    mapped = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 8 << 30
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1
    limits = {
        resource.RLIMIT_AS: mapped + memory,
        resource.RLIMIT_CPU: used + seconds,
        resource.RLIMIT_FSIZE: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _unwrap_state_dict(found: Any) -> tuple[Any, list[str]]:
    """Return the state dict, and a note if it was the only entry of a dict, as training scripts save it."""
    if isinstance(found, Mapping) and len(found) == 1:
        ((key, value),) = found.items()
        if key in _WRAPPERS and isinstance(value, Mapping):
            return value, [f"the state dict was the entry {key!r} of a dict"]
    return found, []


def _describe_foreign(found: Any) -> str | None:
    """Return a description of the first entry that is not a plain tensor under a name; None if there is none."""
    import torch

    if not isinstance(found, Mapping):
        return f"holds {type(found).__name__}, not a dict of tensors"
    for name, value in found.items():
        if not isinstance(name, str):
            return f"has a key of type {type(name).__name__}, not a name"
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.is_quantized:
            return f"holds more than tensors: {name[:60]!r} is {type(value).__name__}"
    return None


def _find_inner_key(found: Any) -> str | None:
    """Return the key of the state dict in a dict that holds more than tensors; None if there is none."""
    held = found if isinstance(found, Mapping) else {}
    return next((key for key in _WRAPPERS if isinstance(held.get(key), Mapping)), None)


def _describe_failure(error: Exception) -> dict[str, str]:
    text = str(error)
    if isinstance(error, EOFError | IndexError | struct.error) or any(word in text.lower() for word in _ENDS_EARLY):
        return {"code": "truncated", "problem": "the pickle ends early"}
    if _OTHER_WRITER in text:
        return {"code": "format", "problem": "is a pickle that torch.save did not write"}
    if type(error).__name__ == "UnpicklingError":
        found = _UNEXPECTED.search(text)
        return {"code": "security", "problem": f"holds more than tensors{f': {found[1]}' if found else ''}"}
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return {"code": "security", "problem": "requests more memory than a file of its size needs"}
    return {"code": "format", "problem": f"cannot be read as a state dict ({type(error).__name__})"}


def _write_verdict(verdict: Mapping[str, Any]) -> None:
    Path("verdict.json").write_text(json.dumps(verdict))


if __name__ == "__main__":
    main()
