"""Processes of stages: how they end, and that none outlives its comparison."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.comparison import lock
from gossamer.comparison.folder import CompareFolder
from gossamer.comparison.lock import lock_file, lock_folder
from gossamer.comparison.worker import ComparisonInterrupted, StageProcesses
from gossamer.errors import ErrorCode, GossamerError

SLEEPER = "import time; print('here', flush=True); time.sleep(60)"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Returns the name of a module with the given text."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def write(text: str) -> str:
        (tmp_path / "stage_of_a_test.py").write_text(text)
        return "stage_of_a_test"

    return write


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_status_output_arguments_and_threads_of_a_process(module: Callable[[str], str], tmp_path: Path) -> None:
    name = module("import os, sys; print(sys.argv[1:], os.environ['OMP_NUM_THREADS']); sys.exit(65)")
    log = tmp_path / "log"
    assert StageProcesses(3).run(name, ["a", "b c"], log) == 65
    assert log.read_text() == "['a', 'b c'] 3\n"
    assert StageProcesses(1).run(module("import os; os.kill(os.getpid(), 9)"), [], log) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_forwarded_and_raised(module: Callable[[str], str], tmp_path: Path, number: signal.Signals) -> None:
    log, children = tmp_path / "log", StageProcesses(1)
    watcher = threading.Thread(
        target=lambda: (until(lambda: log.exists() and "here" in log.read_text()), os.kill(os.getpid(), number))
    )
    before = signal.getsignal(number)
    watcher.start()
    with children.catch_signals(), pytest.raises(ComparisonInterrupted) as stop:
        children.run(module(SLEEPER), [], log)
    watcher.join()
    assert stop.value.signal_number == number
    assert signal.getsignal(number) is before
    with pytest.raises(ComparisonInterrupted):
        children.run(module(SLEEPER), [], log)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell of a parent's death")
def test_stage_does_not_outlive_its_comparison(module: Callable[[str], str], tmp_path: Path) -> None:
    name, log = module(SLEEPER + "\n"), tmp_path / "log"
    text = (
        "from pathlib import Path; from gossamer.comparison.worker import StageProcesses\n"
        "from gossamer.comparison.lock import lock_file\n"
        f"with lock_file(Path({str(tmp_path / 'lock')!r})) as lock:\n"
        f"    StageProcesses(1, lock).run({name!r}, [], Path({str(log)!r}))"
    )
    comparison = subprocess.Popen([sys.executable, "-c", text])
    until(lambda: log.exists() and "here" in log.read_text())
    comparison.kill()
    comparison.wait()
    with lock_file(tmp_path / "lock"):  # the stage held it, too
        pass


def test_two_comparisons_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_WAIT_S", 0.0)
    with (tmp_path / "lock").open("a") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with (
            pytest.raises(GossamerError) as error,
            lock_file(tmp_path / "lock"),
        ):
            pass
    assert error.value.code is ErrorCode.BUSY


def test_folder_without_a_plan_is_removed(tmp_path: Path) -> None:
    folder = CompareFolder(tmp_path / "deep" / "out")
    with lock_folder(folder):
        assert [path.name for path in folder.path.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []
    with lock_folder(folder):
        folder.plan_path.touch()
    with pytest.raises(KeyError), lock_folder(folder):
        raise KeyError
    assert folder.plan_path.exists()


def test_refused_comparison_keeps_the_lock_of_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_WAIT_S", 0.1)
    folder = CompareFolder(tmp_path / "out")
    with lock_folder(folder):
        with pytest.raises(GossamerError) as error, lock_folder(folder):
            pass
        assert error.value.code is ErrorCode.BUSY
        assert (folder.path / ".lock").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where nobody can make one")
def test_folder_that_cannot_be_created_is_an_output_error() -> None:
    with pytest.raises(GossamerError) as error, lock_folder(CompareFolder(Path("/proc/x"))):
        pass
    assert error.value.code is ErrorCode.OUTPUT
