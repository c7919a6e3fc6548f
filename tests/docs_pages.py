"""Run the code blocks of a documentation page as a reader would: shell commands, Python, and files named in a title."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEAD = """\
import subprocess, sys

def command(*arguments):
    subprocess.run([sys.executable, "-m", "gossamer", *arguments], check=True)

"""


def code_blocks(page: Path) -> list[tuple[str, str | None, str]]:
    """Return language, title and code of each block of a page."""
    return [(found[1], found[2], found[3]) for found in BLOCK.finditer(page.read_text())]


def run_page(page: Path, folder: Path, *, check: str = "") -> str:
    """Run every block of a page in a folder, in order, in one process of its own, and return what it printed.

    A command of the shell must be ``gossamer`` and exit with status 0. Python blocks share their names.

    Args:
        page: Page in Markdown.
        folder: Working folder, where files named in a title are written.
        check: Python code that runs last, with the names of the page.
    """
    lines = [HEAD]
    for language, title, code in code_blocks(page):
        if title is not None:
            (folder / title).write_text(code)
        elif language == "sh":
            for line in code.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line, comments=True) or [""]
                if program:
                    assert program == "gossamer", line
                    lines.append(f"command(*{arguments!r})\n")
        elif language == "python":
            lines.append(code)
    script = folder / "page.py"
    script.write_text("\n".join([*lines, check]))
    finished = subprocess.run(
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=False, timeout=1800
    )
    assert finished.returncode == 0, f"{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}"
    return finished.stdout
