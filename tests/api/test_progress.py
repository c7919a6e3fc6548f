"""Progress is silent by default, and a bar, a notebook's bar or lines on request."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from gossamer.api.progress import BarProgress, LineProgress, choose_progress, is_notebook
from gossamer.progress import SILENT, SilentProgress


def test_default_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    for value in (None, False):
        progress = choose_progress(value)
        progress.show_message("reading")
        with progress.track_steps("reading") as update:
            update(1, 2)
    assert capsys.readouterr() == ("", "")


def test_true_prints_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = choose_progress(True)
    assert type(progress) is LineProgress
    progress.show_message("epoch 1 of 2")
    with progress.track_steps("reading") as update:
        update(1, 2)
    assert capsys.readouterr() == ("", "epoch 1 of 2\n")


def test_true_draws_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert type(choose_progress(True)) is BarProgress


def test_own_object_is_used_as_it_is() -> None:
    own = SilentProgress()
    assert choose_progress(own) is own
    assert choose_progress() is SILENT


def test_notebook_is_recognized_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_notebook()
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    assert is_notebook()


def test_bar_counts_steps_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with BarProgress().track_steps("reading images") as update:
        update(1, 2)
        update(2, 2)
    assert capsys.readouterr().out == ""
