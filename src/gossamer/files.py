"""Writing of files, all or nothing, and reading of whole files.

Every file is written to a temporary name in the same folder, flushed to the disk and then renamed, so that a crash, a
full disk or a killed process leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossamer.errors import ErrorCode, GossamerError, from_os_error


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` that becomes ``path`` when the block ends without an error.

    The temporary file is flushed to the disk before the rename and the folder after it. If the block raises, the
    temporary file is removed and ``path`` is untouched.

    Raises:
        GossamerError: ``E-OUTPUT`` for a folder that does not exist; ``E-NOSPACE`` or ``E-OUTPUT`` if the system cannot
            write.
    """
    path = Path(path)
    require_place(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        _flush_to_disk(temporary)
        temporary.replace(path)
        temporary = None
        _flush_to_disk(path.parent)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to ``path`` that becomes ``path`` when the block ends without an error.

    If the block raises, the temporary folder is removed, and so are the folders above it that were created.

    Args:
        path: Folder that does not exist, or is empty.

    Raises:
        GossamerError: ``E-OUTPUT`` for a folder that is not empty, or if the system cannot write; ``E-NOSPACE``.
    """
    path = Path(path)
    require_free_folder(path)
    require_place(path, parents=True)
    above = [folder for folder in path.parents if not folder.exists()]
    finished = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".part") as name:
            made = Path(name) / path.name
            made.mkdir()
            yield made
            _flush_to_disk(made)
            if path.exists():
                path.rmdir()
            made.rename(path)
            finished = True
        _flush_to_disk(path.parent)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        if not finished:
            for folder in above:
                if folder.exists():
                    folder.rmdir()


def require_free_folder(path: Path) -> None:
    """Raise unless ``path`` does not exist or is an empty folder.

    Raises:
        GossamerError: ``E-OUTPUT``.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        remedy = "choose another folder, or empty it"
        raise GossamerError(ErrorCode.OUTPUT, path, "exists and is not an empty folder", remedy)


def require_new_file(path: Path) -> None:
    """Raise unless ``path`` does not exist and can be created.

    Raises:
        GossamerError: ``E-OUTPUT``.
    """
    if path.exists():
        raise GossamerError(ErrorCode.OUTPUT, path, "exists already", "choose another path, or remove it")
    require_place(path)


def require_place(path: Path, *, parents: bool = False) -> None:
    """Raise unless a file or folder can be created at ``path``.

    Args:
        path: Path to write.
        parents: Whether missing folders above it will be created (default: False).

    Raises:
        GossamerError: ``E-OUTPUT``, naming the folder above it that is missing or is a file.
    """
    above = Path(path).absolute().parents
    try:
        nearest = next((number for number, folder in enumerate(above) if folder.exists()), len(above))
        found = above[nearest].is_dir() if nearest < len(above) else True
    except OSError as error:
        raise from_os_error(error, path) from error
    if not found:
        problem = f"{above[nearest]} is a file, not a folder"
        raise GossamerError(ErrorCode.OUTPUT, path, problem, "choose another path")
    if nearest and not parents:
        problem = f"there is no folder {above[nearest - 1]}"
        raise GossamerError(
            ErrorCode.OUTPUT, path, problem, f"create it with mkdir -p {above[0]}, or choose another path"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, all or nothing."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, all or nothing."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON, all or nothing. NaN becomes ``null``."""
    write_text(path, json.dumps(replace_nonfinite(value), indent=2, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """Return the whole content of ``path``, read once.

    Raises:
        GossamerError: ``E-MISSING`` for a path that does not exist, ``E-FORMAT`` for a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise GossamerError(ErrorCode.FORMAT, path, "is a folder, not a file", "name a file inside it")
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise GossamerError(
            ErrorCode.MISSING, path, "may not be read", "check the owner and the permissions"
        ) from error
    except OSError as error:
        raise from_os_error(error, path) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        GossamerError: ``E-MISSING`` for a path that does not exist, ``E-FORMAT`` for other content than JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise GossamerError(
            ErrorCode.FORMAT, path, f"is not valid JSON ({error})", "restore the file from a backup"
        ) from error


def sha256_hexdigest(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def replace_nonfinite(value: Any) -> Any:
    """Return ``value`` with None in place of every float that JSON cannot hold, at any depth."""
    if isinstance(value, dict):
        return {key: replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(item) for item in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value


def _flush_to_disk(path: Path) -> None:
    """Write a file, or the names in a folder, from the cache of the system to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder, and its rename is durable
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
