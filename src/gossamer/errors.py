"""What can go wrong, in one line each.

An error says the value that was met, the law that it breaks and the remedy::

    gossamer: E-TRUNCATED: ct/007.png: the file ends inside a chunk; copy the file again

The code decides the exit status, so that a script can tell a full disk from a bad image.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class ErrorCode(Enum):
    """A class of faults: its name in the message, and the exit status of the command."""

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
        """The code as it is printed, for instance ``E-TRUNCATED``."""
        return self.value[0]

    @property
    def exit_status(self) -> int:
        """The exit status of a command that ends with this error."""
        return self.value[1]


class GossamerError(Exception):
    """The one exception that Gossamer raises for a fault that a user can mend.

    Args:
        code: class of the fault.
        where: file, key or option that is at fault.
        problem: the value that was met and the law that it breaks.
        remedy: what to do about it.
    """

    def __init__(self, code: ErrorCode, where: str | Path, problem: str, remedy: str) -> None:
        self.code = code
        self.where = str(where)
        self.problem = problem
        self.remedy = remedy
        super().__init__(code, self.where, problem, remedy)

    def __str__(self) -> str:
        return _one_line(f"{self.code.label}: {self.where}: {self.problem}; {self.remedy}")

    def to_json(self) -> dict[str, str]:
        """Return the error as data, for ``--json`` and ``errors.jsonl``."""
        return {
            "code": self.code.label,
            "where": self.where,
            "problem": self.problem,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Note:
    """Something accepted that the reader of a result should know.

    Attributes:
        code: class of the observation.
        where: file, key or option that it concerns.
        text: what was met and what was done about it.
    """

    code: ErrorCode
    where: str
    text: str

    def __str__(self) -> str:
        return _one_line(f"{self.where}: {self.text}")

    def to_json(self) -> dict[str, str]:
        """Return the note as data."""
        return {"code": self.code.label, "where": self.where, "text": self.text}


def from_os_error(error: OSError, where: str | Path) -> GossamerError:
    """Translate a failed system call into our one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return GossamerError(
            ErrorCode.NOSPACE,
            where,
            f"the disk is full ({error.strerror}){_free_bytes(where)}",
            "free some space and run again",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return GossamerError(ErrorCode.MISSING, where, "no such file or folder", "check the path")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return GossamerError(
            ErrorCode.OUTPUT, where, f"not permitted ({error.strerror})", "check the owner and the rights"
        )
    return GossamerError(ErrorCode.OUTPUT, where, error.strerror or str(error), "check the path and the disk")


def _free_bytes(where: str | Path) -> str:
    import shutil

    for folder in (Path(where), *Path(where).absolute().parents):
        if folder.is_dir():
            return f", {shutil.disk_usage(folder).free} bytes free"
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
