"""Every code block of the tutorials runs, in order, in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs_pages import code_blocks, run_page

TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_has_a_language(page: Path) -> None:
    languages = {language for language, _, _ in code_blocks(page)}
    assert languages <= {"sh", "python", "text"}
    assert page.read_text().count("\n```") == 2 * len(code_blocks(page))
