"""Run a module in a fresh process, so that its memory can be measured separately. Nothing here needs torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any


def ask_process(
    module: str, request: Mapping[str, Any], *, threads: int, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the answer of ``python -m module`` to a request, both in JSON.

    Args:
        module: Module that calls ``answer_request`` when it runs.
        request: Request to the module.
        threads: Number of CPU threads, for libraries that read it from the environment.
        environment: Additional environment variables of the process (default: none).

    Raises:
        subprocess.CalledProcessError: The process fails.
    """
    finished = subprocess.run(  # noqa: S603 -- this interpreter, and a module of ours
        [sys.executable, "-m", module],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {}), "OMP_NUM_THREADS": str(threads)},
        check=True,
    )
    return json.loads(finished.stdout)


def answer_request(measure: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Read a request from standard input, and write the result of ``measure`` to standard output."""
    json.dump(measure(json.load(sys.stdin)), sys.stdout)
