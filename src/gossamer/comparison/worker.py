"""A stage of a comparison in a process of its own, which does not outlive the comparison.

Run as a module, this file is that process: ``python -m gossamer.comparison.worker PARENT MODULE ARGUMENTS`` runs a
module as ``python -m`` does. Where the comparison is killed, the system stops the stage as if a user had asked it to.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from gossamer.comparison.folder import CompareFolder
from gossamer.errors import ErrorCode, GossamerError, from_os_error
from gossamer.files import require_place

_WAKE_S = 0.2
_PATIENCE_S = 60.0
"""How long a stage may take to stop well; training stops between two steps."""
_LOCK_S = 20.0
_LOCK = ".lock"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Stopped(Exception):  # noqa: N818 -- a signal is not an error
    """A signal asked to stop, and the stage that ran has stopped."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@dataclass
class StageProcesses:
    """Runs modules one after the other, and hands on the signals that ask to stop.

    Attributes:
        threads: of the processor, for each.
        lock: of the comparison; a process holds it as long as it lives.
    """

    threads: int
    lock: IO[str] | None = None
    _received: int | None = field(default=None, init=False)

    def run(self, module: str, arguments: Sequence[str], log: Path) -> int:
        """Run a module with its output in ``log``, and return its exit status; below 0 where a signal ended it.

        Raises:
            Stopped: a signal asked to stop. The module was told, and has ended.
        """
        self.check()
        command = [sys.executable, "-m", "gossamer.comparison.worker", str(os.getpid()), module, *arguments]
        # Threads sleep while they wait, as in every verb.
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "OMP_NUM_THREADS": str(self.threads)}
        kept = () if self.lock is None else (self.lock.fileno(),)
        with log.open("w") as output:
            process = subprocess.Popen(  # noqa: S603 -- this interpreter, and words that we have chosen
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which passes it on once
                pass_fds=kept,
            )
            status = self._wait(process)
        self.check()
        return status

    def check(self) -> None:
        """Raise ``Stopped`` if a signal has come."""
        if self._received is not None:
            raise Stopped(self._received)

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Note the signals that ask to stop, instead of dying of them."""
        previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        told: float | None = None
        try:
            while True:
                try:
                    return process.wait(_WAKE_S)
                except subprocess.TimeoutExpired:
                    if self._received is None:
                        continue
                if told is None:
                    told = time.monotonic()
                    process.send_signal(signal.SIGTERM)
                elif time.monotonic() - told > _PATIENCE_S:
                    process.kill()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def lock_folder(folder: CompareFolder) -> Iterator[IO[str] | None]:
    """Make the folder of a comparison and hold its lock; both go again where the block ends without a plan.

    Args:
        folder: that is there, or is made with those above it.

    Raises:
        GossamerError: ``E-OUTPUT`` where it cannot be made or is not a comparison's, ``E-NOSPACE``, or ``E-BUSY``.
    """
    path = folder.path
    require_place(path, parents=True)
    if path.is_dir() and not folder.plan.exists() and any(each.name != _LOCK for each in path.iterdir()):
        raise GossamerError(ErrorCode.OUTPUT, path, "exists and holds no comparison", "give another --out")
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = from_os_error(error, path)
        code = ErrorCode.NOSPACE if found.code is ErrorCode.NOSPACE else ErrorCode.OUTPUT
        problem = f"cannot be made ({error.strerror or error})"
        raise GossamerError(code, path, problem, "give another --out") from error
    with lock_file(path / _LOCK) as lock:
        try:
            yield lock
        finally:
            if not folder.plan.exists():
                (path / _LOCK).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a folder that somebody else has put something into stays
                    for each in made:
                        each.rmdir()


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[IO[str] | None]:
    """Hold the lock of a comparison; stages that still end after a kill are waited for.

    Args:
        path: a file that is made.

    Raises:
        GossamerError: ``E-BUSY``, where another comparison works in the same folder.
    """
    if sys.platform == "win32":
        yield None  # there are no such locks, and no stages that outlive their comparison unseen
        return
    import fcntl

    try:
        handle = path.open("a")
    except OSError as error:
        raise from_os_error(error, path) from error
    with handle:
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() - began > _LOCK_S:
                    problem = "another comparison works in this folder"
                    raise GossamerError(ErrorCode.BUSY, path.parent, problem, "wait for it, or stop it") from error
                time.sleep(_WAKE_S)
        yield handle


def _die_with(parent: int) -> None:
    """Ask the system to end this process in the way of SIGTERM when its parent dies."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    libc: Any = ctypes.CDLL(None)
    libc.prctl(_DIE_WITH_PARENT, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it has died already
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    _die_with(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
