"""Errors and notes, each in one line.

An error states its code, the place, the problem and a remedy::

    gossamer: E-TRUNCATED: ct/007.png: the file ends inside a chunk; copy the file again

The code determines the exit status, so that a script can distinguish a full disk from a damaged image.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class ErrorCode(Enum):
    """Class of an error: its name in messages, and the exit status of a command that ends with it."""

    MISSING = ("E-MISSING", 66)
    FORMAT = ("E-FORMAT", 65)
    TRUNCATED = ("E-TRUNCATED", 65)
    SYNTAX = ("E-SYNTAX", 65)
    INTEGRITY = ("E-INTEGRITY", 65)
    VALUE = ("E-VALUE", 65)
    GEOMETRY = ("E-GEOMETRY", 65)
    LABEL = ("E-LABEL", 65)
    LIMIT = ("E-LIMIT", 65)
    UNSUPPORTED = ("E-UNSUPPORTED", 65)
    CODEC = ("E-CODEC", 78)
    CONFIG = ("E-CONFIG", 78)
    SECURITY = ("E-SECURITY", 77)
    BUSY = ("E-BUSY", 75)
    OUTPUT = ("E-OUTPUT", 73)
    NOSPACE = ("E-NOSPACE", 74)
    BUG = ("E-BUG", 70)

    @property
    def label(self) -> str:
        """Name of the code in messages, such as ``E-TRUNCATED``."""
        return self.value[0]

    @property
    def exit_status(self) -> int:
        """Exit status of a command that ends with this error."""
        return self.value[1]


class GossamerError(Exception):
    """An error that a user can fix, such as a damaged file or an invalid option.

    Args:
        code: Class of the error.
        where: File, key, parameter or option that caused the error.
        problem: Offending value and the constraint that it violates.
        remedy: Action that fixes the error.
    """

    def __init__(self, code: ErrorCode, where: str | Path, problem: str, remedy: str) -> None:
        self.code = code
        self.where = str(where)
        self.problem = problem
        self.remedy = remedy
        super().__init__(code, self.where, problem, remedy)

    def __str__(self) -> str:
        return _join_lines(f"{self.code.label}: {self.where}: {self.problem}; {self.remedy}")

    def to_json(self) -> dict[str, str]:
        """Return the error as data for ``--json`` and ``errors.jsonl``."""
        return {
            "code": self.code.label,
            "where": self.where,
            "problem": self.problem,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Note:
    """An observation that does not stop the work, but that the reader of a result should know.

    Attributes:
        code: Class of the observation.
        where: File, key or option that it concerns.
        text: Observation and its treatment.
    """

    code: ErrorCode
    where: str
    text: str

    def __str__(self) -> str:
        return _join_lines(f"{self.where}: {self.text}")

    def to_json(self) -> dict[str, str]:
        """Return the note as data."""
        return {"code": self.code.label, "where": self.where, "text": self.text}


def install_hint(extra: str) -> str:
    """Return the remedy for packages of an extra that are not installed.

    Args:
        extra: Name of the extra, such as ``train``.
    """
    return f'run pip install ".[{extra}]" in the folder of Gossamer\'s source'


def from_os_error(error: OSError, where: str | Path) -> GossamerError:
    """Return the error for a failed system call.

    Args:
        error: Error of the system call.
        where: File or folder that it concerns.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return GossamerError(
            ErrorCode.NOSPACE,
            where,
            f"the disk is full ({error.strerror}){_describe_free_space(where)}",
            "free space on the disk and run the command again",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return GossamerError(ErrorCode.MISSING, where, "no such file or folder", "check the path")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return GossamerError(
            ErrorCode.OUTPUT, where, f"access denied ({error.strerror})", "check the owner and the permissions"
        )
    return GossamerError(ErrorCode.OUTPUT, where, error.strerror or str(error), "check the path and the disk")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an allocation failed, in Python or in torch."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def _describe_free_space(where: str | Path) -> str:
    for folder in (Path(where), *Path(where).absolute().parents):
        if folder.is_dir():
            return f", {shutil.disk_usage(folder).free} bytes free"
    return ""


def _join_lines(text: str) -> str:
    return " ".join(text.split())
