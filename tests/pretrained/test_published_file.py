"""Files of others: safetensors are read; a pickle only by request, in a child, and if it holds only tensors."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from gossamer.checkpoint import write_tensors
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import sha256_hexdigest
from gossamer.pretrained import published_file, quarantine, unpickle
from gossamer.pretrained.published_file import read_published

STATE = {"a.weight": torch.arange(15.0).reshape(3, 5), "a.bias": torch.ones(3)}


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def refusal(path: Path, *, trust_pickle: bool = False) -> GossamerError:
    with pytest.raises(GossamerError) as caught:
        read_published(path, trust_pickle=trust_pickle)
    assert "\n" not in str(caught.value)
    return caught.value


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_safetensors_of_others_need_no_digest_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(STATE, path, metadata={"format": "pt"})
    found = read_published(path)
    assert same(found.tensors, STATE)
    assert (found.file, found.form, found.sha256) == (path.name, "safetensors", sha256_hexdigest(path.read_bytes()))
    assert found.size_bytes == path.stat().st_size


def test_a_prefix_of_every_name_is_dropped_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({f"module.{name}": tensor for name, tensor in STATE.items()}, path)
    found = read_published(path)
    assert same(found.tensors, STATE)
    assert "module." in found.notes[0]


@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_truncated_safetensors_file(part: float, tmp_path: Path) -> None:
    whole = safetensors.torch.save(STATE)
    (tmp_path / "a").write_bytes(whole[: int(part * len(whole))])
    assert refusal(tmp_path / "a").code is ErrorCode.TRUNCATED


def archive(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for member in members:
            opened.writestr(member, b"x")
    return path


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda p: p.with_name("absent"), ErrorCode.MISSING),
        (lambda p: p.parent, ErrorCode.FORMAT),
        (lambda p: _bytes(p, b"the patient has no fever"), ErrorCode.FORMAT),
        (lambda p: _bytes(p, b"\x89HDF\r\n\x1a\n" + bytes(50)), ErrorCode.UNSUPPORTED),
        (lambda p: _bytes(p, b"version https://git-lfs.github.com"), ErrorCode.UNSUPPORTED),
        (lambda p: _bytes(p, b"<!DOCTYPE html><html>"), ErrorCode.UNSUPPORTED),
        (lambda p: _bytes(p, struct.pack("<Q", 9) + b'{"a": 1}}'), ErrorCode.FORMAT),
        (lambda p: _bytes(p, safetensors.torch.save(STATE) + b"x"), ErrorCode.FORMAT),
        (lambda p: _bytes(p, safetensors.torch.save({})), ErrorCode.FORMAT),
        (lambda p: archive(p, "arr_0.npy"), ErrorCode.UNSUPPORTED),
        (lambda p: archive(p, "readme.txt"), ErrorCode.FORMAT),
        (lambda p: archive(p, "a/data.pkl", "a/constants.pkl"), ErrorCode.SECURITY),
        (lambda p: _bytes(p, saved(p, STATE).read_bytes()[:-40]), ErrorCode.TRUNCATED),
    ],
)
def test_other_files_are_refused(make: Callable[[Path], Path], code: ErrorCode, tmp_path: Path) -> None:
    for trust_pickle in (False, True):
        path = make(tmp_path / "file")
        error = refusal(path, trust_pickle=trust_pickle)
        assert (error.code, error.where) == (code, str(path))


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_file_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_file, "MAX_FILE_BYTES", 10)
    assert refusal(_bytes(tmp_path / "a", bytes(11))).code is ErrorCode.LIMIT


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_is_refused_and_no_child_starts(new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_file, "read_pickle", lambda *_: pytest.fail("was read"))
    path = saved(tmp_path / "a.pth", STATE, _use_new_zipfile_serialization=new)
    error = refusal(path)
    assert error.code is ErrorCode.SECURITY
    assert "trust_pickle" in error.remedy


def test_a_state_dict_is_read_when_it_is_trusted(tmp_path: Path) -> None:
    tied = OrderedDict(STATE, c=nn.Parameter(STATE["a.weight"]), d=STATE["a.weight"].t(), e=torch.tensor(3))
    found = read_published(saved(tmp_path / "a.pth", {"model": tied}), trust_pickle=True)
    assert same(found.tensors, dict(tied))
    assert found.form == "pickle"
    assert "'model'" in found.notes[0]


def test_a_callable_is_refused_and_not_called(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    saved(path, {**STATE, "evil": Payload(marker)})
    error = refusal(path, trust_pickle=True)
    assert error.code is ErrorCode.SECURITY
    assert "posix.system" in str(error)
    assert not marker.exists()
    # The marker would have been written by a reader that is not careful.
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


@pytest.mark.parametrize("form", ["legacy", "plain"])
def test_a_callable_in_an_older_form(form: str, tmp_path: Path) -> None:
    value, stream = {"evil": Payload(tmp_path / "marker")}, io.BytesIO()
    if form == "legacy":
        torch.save(value, stream, _use_new_zipfile_serialization=False)
    else:
        pickle.dump(value, stream, protocol=2)
    stream.seek(0)
    with pytest.raises(pickle.UnpicklingError) as caught:
        torch.load(stream, weights_only=True)
    assert unpickle._describe_failure(caught.value) == {
        "code": "security",
        "problem": "holds more than tensors: posix.system",
    }
    assert not (tmp_path / "marker").exists()


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.pth", STATE).read_bytes()
    with pytest.raises(GossamerError) as caught:
        quarantine.read_pickle(data, tmp_path / "a.pth", seconds=0.05)
    assert caught.value.code is ErrorCode.SECURITY


def test_memory_is_limited(tmp_path: Path) -> None:
    # A few bytes that claim 8 GB: one number, seen through strides of zero.
    path = saved(tmp_path / "a.pth", {"a": torch.zeros(1).expand(2**31)})
    assert path.stat().st_size < 10_000
    error = refusal(path, trust_pickle=True)
    assert error.code is ErrorCode.SECURITY
    assert "memory" in str(error)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"epoch": 3, **STATE}, "'epoch' is int"),
        ({"model": STATE, "optimizer": {}}, "'model' is dict"),
        ({"a": [torch.ones(2)]}, "'a' is list"),
        ({"a": torch.eye(2).to_sparse()}, "'a' is Tensor"),
        ({1: torch.ones(2)}, "a key of type int"),
        (torch.ones(2), "holds Tensor"),
        ([torch.ones(2)], "holds list"),
    ],
)
def test_only_tensors_under_names_are_handed_back(value: Any, text: str) -> None:
    found = unpickle._describe_foreign(unpickle._unwrap_state_dict(value)[0])
    assert found is not None
    assert text in found


def test_a_checkpoint_says_what_to_save_alone(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path / "a.pth", {"epoch": 3, "model": STATE}), trust_pickle=True)
    assert error.code is ErrorCode.SECURITY
    assert "['model']" in error.remedy


def test_weights_of_our_own_are_not_imported(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", STATE, {})
    error = refusal(tmp_path / "model.safetensors")
    assert error.code is ErrorCode.UNSUPPORTED
    assert str(tmp_path) in error.remedy


@pytest.mark.parametrize(
    ("value", "text"),
    [({"a": argparse.Namespace(b=1)}, "argparse.Namespace"), (nn.Linear(2, 3), "torch.nn.modules.linear.Linear")],
)
def test_objects_are_named(value: Any, text: str) -> None:
    stream = io.BytesIO()
    torch.save(value, stream)
    stream.seek(0)
    with pytest.raises(pickle.UnpicklingError) as caught:
        torch.load(stream, weights_only=True)
    assert unpickle._describe_failure(caught.value) == {
        "code": "security",
        "problem": f"holds more than tensors: {text}",
    }


@pytest.mark.parametrize("keep", [2, 60, 254, 277, 461])
def test_the_legacy_form_that_ends_early(keep: int) -> None:
    stream = io.BytesIO()
    torch.save(STATE, stream, _use_new_zipfile_serialization=False)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        torch.load(io.BytesIO(stream.getvalue()[:keep]), weights_only=True)
    assert unpickle._describe_failure(caught.value)["code"] == "truncated"


@pytest.mark.parametrize(
    ("verdict", "tensors"),
    [
        (None, None),
        (b"", None),
        (b"[]", None),
        (b"{}", None),
        (b"{}", b"PK"),
        (b"{" * 100_000, None),
        (b'{"notes": 3}', safetensors.torch.save(STATE)),
    ],
)
def test_what_a_child_wrote_is_not_believed(verdict: bytes | None, tensors: bytes | None, tmp_path: Path) -> None:
    for name, data in ((quarantine.VERDICT, verdict), (quarantine.TENSORS, tensors)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
    with pytest.raises(GossamerError) as caught:
        quarantine._read_result(tmp_path, 1, tmp_path / "a.pth", 10_000)
    assert caught.value.code is ErrorCode.SECURITY


def test_a_result_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    safetensors.torch.save_file(STATE, target)
    (tmp_path / quarantine.VERDICT).write_text("{}")
    (tmp_path / quarantine.TENSORS).symlink_to(target)
    with pytest.raises(GossamerError):
        quarantine._read_result(tmp_path, 0, tmp_path / "a.pth", 10_000)


def test_an_interrupt_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Interrupted(quarantine.subprocess.Popen):  # type: ignore[name-defined, type-arg]
        def communicate(self, *_: Any, **__: Any) -> Any:
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(quarantine.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        quarantine.read_pickle(b"\x80", tmp_path / "a.pth")
    assert started[0].returncode is not None
