"""Every mechanism of ours carries the note from which its documentation is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gossamer.nn.attention import MECHANISMS

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
from mechanisms_page import mechanisms_page  # noqa: E402


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_every_mechanism_has_a_note(name: str) -> None:
    note = vars(MECHANISMS[name])["note"]
    assert all(vars(note).values())


def test_page_of_mechanisms_is_up_to_date() -> None:
    # Written by: python benchmarks/mechanisms_page.py benchmarks/attention.json
    measured = json.loads((ROOT / "benchmarks" / "attention.json").read_text())
    assert (ROOT / "docs" / "mechanisms.md").read_text() == mechanisms_page(measured)
