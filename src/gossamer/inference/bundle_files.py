"""The files of a bundle, which must be exactly those that its manifest lists, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gossamer.errors import ErrorCode, GossamerError, from_os_error
from gossamer.files import read_bytes, read_json, sha256_hexdigest
from gossamer.inference.manifest import MANIFEST, MODEL, Manifest, Member

_COPY_AGAIN = "copy the bundle again"


def is_bundle(path: Path) -> bool:
    """Return whether a path is a folder with a manifest, or with a model whose manifest is missing."""
    return any((path / name).is_file() for name in (MANIFEST, MODEL))


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bundle.

    Raises:
        GossamerError: ``E-MISSING`` if there is none, ``E-SECURITY`` for a link, ``E-INTEGRITY`` if it was changed,
            ``E-FORMAT``, ``E-CONFIG`` or ``E-UNSUPPORTED`` if it cannot be read.
    """
    if not folder.is_dir():
        problem = "is not a bundle: it is not a folder" if folder.exists() else "there is no such folder"
        raise GossamerError(ErrorCode.MISSING, folder, problem, "name a folder that gossamer export wrote")
    path = folder / MANIFEST
    if not path.is_file():
        problem = f"is not a bundle: it has no {MANIFEST}"
        raise GossamerError(ErrorCode.MISSING, folder, problem, "name a folder that gossamer export wrote")
    _refuse_link(path)
    return Manifest.from_json(read_json(path), str(path))


def read_members(folder: Path, members: Mapping[str, Member]) -> bytes:
    """Check every member of a bundle, and return the content of its model, which is read once.

    Args:
        folder: Folder of the bundle.
        members: Members as the manifest lists them, by name.

    Raises:
        GossamerError: ``E-SECURITY`` for a name that is not a plain file name, or a link, ``E-MISSING`` for a missing
            member, ``E-INTEGRITY`` for a changed one, and for a file that is not a member.
    """
    for name in members:
        if not _is_plain(name):
            problem = f"lists the member {name!r}, which is not a plain file name: members are in the folder itself"
            raise GossamerError(ErrorCode.SECURITY, folder / MANIFEST, problem, "do not trust this bundle")
    if MODEL not in members:
        problem = f"lists no {MODEL} among its members"
        raise GossamerError(ErrorCode.MISSING, folder / MANIFEST, problem, "export the bundle again")
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise from_os_error(error, folder) from error
    for name in members:
        if name not in there:
            raise GossamerError(ErrorCode.MISSING, folder / name, "is listed in the manifest and missing", _COPY_AGAIN)
    if strange := sorted(there - set(members) - {MANIFEST}):
        problem = f"is not listed in the manifest{f', nor are {len(strange) - 1} others' if len(strange) > 1 else ''}"
        raise GossamerError(ErrorCode.INTEGRITY, folder / strange[0], problem, "remove it, or copy the bundle again")
    contents = {name: _read_member(folder / name, member) for name, member in members.items()}
    return contents[MODEL]


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..", MANIFEST) and not set(name) & set("/\\:\0")


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        problem = "is a link, which may lead out of the folder; only plain files are allowed"
        raise GossamerError(ErrorCode.SECURITY, path, problem, "copy the files that the links point to")


def _read_member(path: Path, member: Member) -> bytes:
    _refuse_link(path)
    if not path.is_file():
        raise GossamerError(ErrorCode.INTEGRITY, path, "is not a file", _COPY_AGAIN)
    size = path.stat().st_size
    if size != member.bytes:  # before it is read: it may be of any size
        raise GossamerError(
            ErrorCode.INTEGRITY, path, f"has {size} bytes, its manifest says {member.bytes}", _COPY_AGAIN
        )
    data = read_bytes(path)
    if sha256_hexdigest(data) != member.sha256:
        problem = "was changed: its SHA-256 is not that of the manifest"
        raise GossamerError(ErrorCode.INTEGRITY, path, problem, _COPY_AGAIN)
    return data
