"""Writes are all or nothing, whatever fails in between."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import finite, read_bytes, read_json, replacing, write_bytes, write_json


def test_a_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, ErrorCode.NOSPACE), (errno.EDQUOT, ErrorCode.NOSPACE), (errno.EROFS, ErrorCode.OUTPUT)],
)
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_failing_system_call_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: ErrorCode, call: str
) -> None:
    write_bytes(tmp_path / "a", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(GossamerError) as caught:
        write_bytes(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert caught.value.code is code
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_file_larger_than_the_system_allows(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(GossamerError) as caught:
            write_bytes(tmp_path / "a", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code is ErrorCode.NOSPACE
    assert "bytes free" in str(caught.value)
    assert (tmp_path / "a").read_bytes() == b"old"


def test_an_exception_inside_keeps_the_old_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")

    def fail_half_way() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        write_bytes(tmp_path / "absent" / "a", b"")
    assert caught.value.code is ErrorCode.MISSING
    with pytest.raises(GossamerError) as caught:
        read_bytes(tmp_path / "absent")
    assert caught.value.code is ErrorCode.MISSING


def test_json_holds_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [float("nan"), 1.5, (float("inf"),)]})
    assert read_json(tmp_path / "a.json") == {"x": [None, 1.5, [None]]}
    assert finite((1, "a")) == [1, "a"]
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(GossamerError, match="not JSON"):
        read_json(tmp_path / "b.json")
