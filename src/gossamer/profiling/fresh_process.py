"""A module asked in a process of its own, whose memory is nobody else's. Nothing here needs torch."""

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
    """Return what ``python -m module`` answers to a request, in JSON both ways.

    Args:
        module: that calls ``answer_request`` when it is run.
        request: what it is asked.
        threads: of the processor, for libraries that read their number from the environment.
        environment: variables that the process has besides those of this one.

    Raises:
        subprocess.CalledProcessError: it fails.
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


def answer_request(probe: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Be the process that is asked: read the request, write what ``probe`` returns."""
    json.dump(probe(json.load(sys.stdin)), sys.stdout)
