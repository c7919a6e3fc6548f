"""Run the code blocks of a documentation page: shell commands, Python, and files that a block names in its title."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from gossamer.cli.main import run

BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXECUTED = ("sh", "python")


def code_blocks(page: Path) -> list[tuple[str, str | None, str]]:
    """Return language, title and code of each block of a page."""
    return [(found[1], found[2], found[3]) for found in BLOCK.finditer(page.read_text())]


def run_page(page: Path, folder: Path) -> dict[str, Any]:
    """Run every block of a page, in order, in the current folder, and return the names that its Python defines.

    A shell command must begin with ``gossamer`` and exit with status 0. Python blocks share their names.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for language, title, code in code_blocks(page):
        if title is not None:
            (folder / title).write_text(code)
        elif language == "sh":
            for line in code.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line, comments=True) or [""]
                if program:
                    assert program == "gossamer", line
                    assert run(arguments) == 0, line
        elif language == "python":
            exec(compile(code, str(page), "exec"), names)
    return names
