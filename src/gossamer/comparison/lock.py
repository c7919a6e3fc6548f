"""The lock of a comparison's folder: one comparison at a time works in it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gossamer.comparison.folder import CompareFolder
from gossamer.errors import ErrorCode, GossamerError, from_os_error
from gossamer.files import require_place

LOCK_WAIT_S = 20.0
"""Time to wait for a lock in seconds, in which a stage that outlived its killed comparison can end."""
_POLL_S = 0.2
_LOCK_NAME = ".lock"


@contextlib.contextmanager
def lock_folder(folder: CompareFolder) -> Iterator[IO[str] | None]:
    """Create the folder of a comparison and hold its lock. Both are removed if the block ends without a plan.

    Args:
        folder: Folder of the comparison, which is created with its parents.

    Raises:
        GossamerError: ``E-OUTPUT`` if it cannot be created or holds something else, ``E-NOSPACE``, or ``E-BUSY``.
    """
    path = folder.path
    require_place(path, parents=True)
    if path.is_dir() and not folder.plan_path.exists() and any(each.name != _LOCK_NAME for each in path.iterdir()):
        raise GossamerError(ErrorCode.OUTPUT, path, "exists and is not a comparison", "use another folder")
    created = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = from_os_error(error, path)
        code = ErrorCode.NOSPACE if found.code is ErrorCode.NOSPACE else ErrorCode.OUTPUT
        problem = f"cannot be created ({error.strerror or error})"
        raise GossamerError(code, path, problem, "use another folder") from error
    with lock_file(path / _LOCK_NAME) as lock:
        try:
            yield lock
        finally:
            if not folder.plan_path.exists():
                (path / _LOCK_NAME).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a folder with files of somebody else stays
                    for each in created:
                        each.rmdir()


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[IO[str] | None]:
    """Hold the lock of a comparison. Stages that are still ending after a kill are waited for.

    Args:
        path: File of the lock, which is created.

    Raises:
        GossamerError: ``E-BUSY`` if another comparison works in the same folder.
    """
    if sys.platform == "win32":
        yield None  # Windows has neither such locks nor stages that outlive their comparison
        return
    import fcntl

    try:
        handle = path.open("a")
    except OSError as error:
        raise from_os_error(error, path) from error
    with handle:
        started = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() - started > LOCK_WAIT_S:
                    problem = "another comparison works in this folder"
                    raise GossamerError(ErrorCode.BUSY, path.parent, problem, "wait for it, or stop it") from error
                time.sleep(_POLL_S)
        yield handle
