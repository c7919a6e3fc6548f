"""The documentation site: every page is in the menu, and the reference of the command line is up to date."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "scripts"))
from write_cli_reference import cli_reference  # noqa: E402


def menu_pages(entries: list[object]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for value in entry.values():
                yield from menu_pages(value if isinstance(value, list) else [value])


def test_menu_names_every_page_once() -> None:
    menu = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    pages = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(menu_pages(menu)) == pages


def test_reference_of_the_command_line_is_up_to_date() -> None:
    # Written by: python scripts/write_cli_reference.py docs/reference/cli.md
    assert (DOCS / "reference" / "cli.md").read_text() == cli_reference()


def test_no_page_names_a_path_of_one_machine() -> None:
    for page in DOCS.rglob("*.md"):
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/", page.read_text()), page
