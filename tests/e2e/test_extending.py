"""Each walk of docs/extending.md is executed in a copy of the repository, and touches no more files than it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs_pages import BLOCK

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
FILES = {"Add an attention mechanism": 5, "Add a network": 4, "Add a volume format": 3}
"""Walks of the page, and the number of files that each edits by hand."""


def walk(heading: str) -> str:
    """Return the section of the page below a heading."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def apply_difference(file: Path, difference: str) -> None:
    """Change the one place of a file that has the lines of context of a difference."""
    lines = difference.splitlines()
    before = "".join(f"{line[1:]}\n" for line in lines if line[:1] in ("", " ", "-"))
    after = "".join(f"{line[1:]}\n" for line in lines if line[:1] in ("", " ", "+"))
    text = file.read_text()
    assert text.count(before) == 1, f"{file} does not hold these lines once:\n{before}"
    file.write_text(text.replace(before, after))


def copy_repository(folder: Path) -> Path:
    copy = folder / "gossamer"
    skipped = shutil.ignore_patterns(".git", ".venv*", "site", "__pycache__", ".*_cache", ".hypothesis", "demo", "runs")
    shutil.copytree(ROOT, copy, ignore=skipped)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("heading", FILES)
def test_walk_works_in_a_copy(heading: str, tmp_path: Path) -> None:
    copy = copy_repository(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    for found in BLOCK.finditer(walk(heading)):
        language, title, code = found[1], found[2], found[3]
        if language == "diff":
            apply_difference(copy / title, code)
        elif title is not None:
            (copy / title).write_text(code)
        elif language == "sh":
            for line in code.splitlines():
                program, *arguments = shlex.split(line, comments=True)
                module = [] if program == "python" else ["-m", program]
                command = [sys.executable, *module, *arguments]
                finished = subprocess.run(
                    command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=1800
                )
                assert finished.returncode == 0, f"{line}\n{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}"


@pytest.mark.parametrize("heading", FILES)
def test_walk_edits_few_files(heading: str) -> None:
    titles = {found[2] for found in BLOCK.finditer(walk(heading)) if found[2] is not None}
    assert len(titles) == FILES[heading]
