"""Writes are all or nothing, whatever fails in between."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import (
    new_folder,
    read_bytes,
    read_json,
    replace_atomically,
    replace_nonfinite,
    write_bytes,
    write_json,
)


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
        with replace_atomically(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        write_bytes(tmp_path / "absent" / "deep" / "a", b"")
    assert caught.value.code is ErrorCode.OUTPUT
    assert caught.value.problem == f"there is no folder {tmp_path / 'absent'}"
    (tmp_path / "file").write_bytes(b"")
    for write in (lambda path: write_bytes(path, b""), lambda path: new_folder(path).__enter__()):
        with pytest.raises(GossamerError) as caught:
            write(tmp_path / "file" / "a")
        assert caught.value.code is ErrorCode.OUTPUT
        assert caught.value.problem == f"{tmp_path / 'file'} is a file, not a folder"
    with pytest.raises(GossamerError) as caught:
        read_bytes(tmp_path / "absent")
    assert caught.value.code is ErrorCode.MISSING


def test_json_holds_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [float("nan"), 1.5, (float("inf"),)]})
    assert read_json(tmp_path / "a.json") == {"x": [None, 1.5, [None]]}
    assert replace_nonfinite((1, "a")) == [1, "a"]
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(GossamerError, match="E-FORMAT"):
        read_json(tmp_path / "b.json")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with new_folder(out) as made:
        write_bytes(made / "one", b"1")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["one"]
    assert [path.name for path in out.parent.iterdir()] == ["b"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with new_folder(empty) as made:
        write_bytes(made / "two", b"2")
    assert (empty / "two").read_bytes() == b"2"


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "a" / "b") as made:
            write_bytes(made / "one", b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["file", "full folder"])
def test_a_folder_never_replaces_anything(tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "file":
        write_bytes(out, b"kept")
    else:
        out.mkdir()
        write_bytes(out / "kept", b"kept")
    with pytest.raises(GossamerError) as caught, new_folder(out):
        pytest.fail("the block must not run")
    assert caught.value.code is ErrorCode.OUTPUT
    assert (out if what == "file" else out / "kept").read_bytes() == b"kept"


def test_a_folder_without_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write() -> None:
        with new_folder(tmp_path / "out") as made:
            monkeypatch.setattr(os, "fsync", full)
            write_bytes(made / "one", b"1")

    with pytest.raises(GossamerError) as caught:
        write()
    assert caught.value.code is ErrorCode.NOSPACE
    assert list(tmp_path.iterdir()) == []
