"""Stages in processes of their own, which do not outlive the comparison.

Run as a module, this file is such a process: ``python -m gossamer.comparison.worker PARENT MODULE ARGUMENTS`` runs a
module as ``python -m`` does. If the comparison is killed, the system sends the process SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

_POLL_S = 0.2
_PATIENCE_S = 60.0
"""Time in seconds until a stage that was told to stop is killed; training stops between two steps."""
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class ComparisonInterrupted(KeyboardInterrupt):
    """A signal stopped the comparison, and the running stage has ended; the comparison can be resumed.

    Args:
        signal_number: Number of the signal.
        command: Command line that resumes the comparison (default: unknown).
    """

    def __init__(self, signal_number: int, command: str = "") -> None:
        self.signal_number = signal_number
        self.command = command
        super().__init__(signal_number, command)

    def __str__(self) -> str:
        resume = f"; resume with: {self.command}" if self.command else ""
        return f"stopped by {signal.Signals(self.signal_number).name}{resume}"


@dataclass
class StageProcesses:
    """Runs modules one after the other, and forwards the signals to stop.

    Attributes:
        threads: Number of CPU threads of each process.
        lock: Lock of the comparison, which a process holds while it lives.
    """

    threads: int
    lock: IO[str] | None = None
    _received: int | None = field(default=None, init=False)

    def run(self, module: str, arguments: Sequence[str], log: Path) -> int:
        """Run a module, and return its exit status; it is negative if a signal ended the process.

        Args:
            module: Name of the module.
            arguments: Arguments of the module.
            log: File for its output.

        Raises:
            ComparisonInterrupted: A signal told the comparison to stop. The module was told too, and has ended.
        """
        self.check_signals()
        command = [sys.executable, "-m", "gossamer.comparison.worker", str(os.getpid()), module, *arguments]
        # Waiting threads sleep, as in the command line.
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "OMP_NUM_THREADS": str(self.threads)}
        kept = () if self.lock is None else (self.lock.fileno(),)
        with log.open("w") as output:
            process = subprocess.Popen(  # noqa: S603 -- this interpreter, with our own arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C reaches only this process, which forwards it once
                pass_fds=kept,
            )
            status = self._wait(process)
        self.check_signals()
        return status

    def check_signals(self) -> None:
        """Raise ``ComparisonInterrupted`` if a signal has arrived."""
        if self._received is not None:
            raise ComparisonInterrupted(self._received)

    @contextlib.contextmanager
    def catch_signals(self) -> Iterator[None]:
        """Record SIGINT and SIGTERM in the block rather than end. Outside of the main thread nothing is caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._record) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        told: float | None = None
        try:
            while True:
                try:
                    return process.wait(_POLL_S)
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


def _end_with_parent(parent: int) -> None:
    """Ask the system to send this process SIGTERM when its parent ends."""
    if not sys.platform.startswith("linux"):
        return
    libc: Any = ctypes.CDLL(None)
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it has already ended
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    _end_with_parent(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
