"""Plain English: docstring entries that can be read alone, and words that readers would have to translate back."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gossamer"
FILES = sorted(SOURCE.rglob("*.py"))
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted(SOURCE.rglob("*.j2")),
]
sys.path.insert(0, str(ROOT / "benchmarks"))
from house_counts import count_tree, docstring_entries  # noqa: E402

BANNED = {
    r"mend(s|ed|ing)?": "fix",
    r"alike": "identically",
    r"beside": "next to, compared with",
    r"wish(es|ed)?": "option",
    r"if left out": "default: X",
    r"(go|goes|went|gone|going) on with": "resume, continue",
    r"laws?": "constraint, rule",
    r"(is|are) (wanted|asked for)": "expected, required",
    r"wants": "needs, expects",
    r"learnt": "learned",
    r"(?<!there )is no (network|number|bundle|run|folder|file|label|image|mask|table|class|path|size)": "is not a ...",
    r"stands? (in|beside|behind)": "is in, is next to",
    r"of its own sort": "of this kind",
    r"our fault": "a bug in Gossamer",
    r"twins?": "baseline, counterpart",
    r"once more": "again",
}
"""Words and phrases that are not used, each with what to write instead."""


def prose(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield docstrings and other string literals with their line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def banned_words(text: str) -> Iterator[str]:
    for pattern, better in BANNED.items():
        for found in re.finditer(rf"\b{pattern}\b", text, re.IGNORECASE):
            yield f"{found[0]!r} (write: {better})"


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if (found := re.search(r"(?:^|\s)#\s(.*)$", line)) is not None:
            yield number, found[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_source_uses_no_banned_word(path: Path) -> None:
    texts = [*prose(ast.parse(path.read_text())), *comments(path)]
    assert [f"{line}: {word}" for line, text in texts for word in banned_words(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_uses_no_banned_word(page: Path) -> None:
    assert list(banned_words(page.read_text())) == []


@pytest.fixture(scope="module")
def counts() -> dict[str, tuple[list[str], int]]:
    return count_tree(SOURCE)


def test_no_entry_leans_on_its_name(counts: dict[str, tuple[list[str], int]]) -> None:
    assert counts["entries"][0] == []


def test_entries_begin_with_a_capital_letter_or_code() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for name, text in docstring_entries(ast.get_docstring(node) or ""):
                    assert not re.match(r"[a-z]", text), f"{path.relative_to(SOURCE)}: {name}: {text}"


def test_few_functions_have_a_name_of_one_word(counts: dict[str, tuple[list[str], int]]) -> None:
    places, total = counts["functions"]
    assert len(places) <= 0.15 * total


def test_few_questions_for_the_task(counts: dict[str, tuple[list[str], int]]) -> None:
    assert len(counts["branches"][0]) <= 5, counts["branches"][0]


def test_two_types_of_predictors(counts: dict[str, tuple[list[str], int]]) -> None:
    assert len(counts["predictors"][0]) <= 2, counts["predictors"][0]
