"""How the process of a stage ended: the file that it writes and the comparison reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gossamer import config
from gossamer.errors import GossamerError
from gossamer.files import read_json, write_json

NOT_MET = "no quantization scheme meets the limit"
"""Start of the reason of a quantization that failed by its result and not by a fault."""
_LAST_WORDS = 200
"""Characters of a log's last line that are shown."""
_SIGKILL = 9


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """End of a stage.

    Attributes:
        status: ``done``, ``failed``, or ``not_met`` for a quantization whose loss exceeds the limit.
        code: Code of the error; empty for ``done``.
        message: Problem and remedy; empty for ``done``.
        where: File, key or option of the error.
    """

    status: Literal["done", "failed", "not_met"]
    code: str = ""
    message: str = ""
    where: str = ""

    @property
    def reason(self) -> str | None:
        """The failure in one line; None for ``done``."""
        if self.status == "done":
            return None
        if self.status == "not_met":
            return f"{NOT_MET}: {self.message}"
        return f"{self.code}: {self.where}: {self.message}"


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write how a stage ended."""
    write_json(path, config.to_json(outcome))


def read_failure(path: Path, log: Path, status: int) -> str | None:
    """Return why a stage failed, in one line; None for a success.

    Args:
        path: File with the outcome of the stage. It is missing if the process ended abruptly.
        log: File with the output of the process.
        status: Exit status of the process; negative if a signal ended it.
    """
    try:
        outcome = config.from_json(Outcome, read_json(path), str(path))
        if (status == 0) == (outcome.status == "done"):
            return outcome.reason
    except GossamerError:
        if status == 0:
            return "the process ended without an outcome"
    if status < 0:
        hint = ": the system may be short of memory" if status == -_SIGKILL else ""
        return f"ended by signal {-status}{hint}"
    lines = (line.strip() for line in reversed(log.read_text(errors="replace").splitlines()))
    last = next((line for line in lines if line), "no output")
    return f"exit status {status}: {last[:_LAST_WORDS]}"
