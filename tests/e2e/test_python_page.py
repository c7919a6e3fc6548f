"""The examples of the page on Python run from top to bottom, and every public name is explained there."""

from __future__ import annotations

from pathlib import Path

import pytest

import gossamer
from docs_pages import run_page

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


CHECK = """
assert fault.where == "split", fault
assert evaluation.to_dict()["split"] == "test"
assert quantized.to_dict()["out"] == "bundles/chest-int8"
"""


@pytest.mark.slow
def test_examples_run(tmp_path: Path) -> None:
    run_page(PAGE, tmp_path, check=CHECK)


def test_every_public_function_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert [name for name in gossamer.__all__ if not name.startswith("_") and f"gossamer.{name}" not in page] == []
