"""The demo, as small as it goes: both parts, and one page that leads to everything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gossamer.cli.main import run


@pytest.mark.slow
def test_the_demo_writes_one_page_that_leads_to_every_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    small = ["--count", "60", "--epochs", "1", "--cases", "6", "--mask-epochs", "1", "--threads", "1"]
    assert run(["demo", "--out", str(out), *small, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    page = Path(answer["report"])
    assert page == out.resolve() / "report.html"
    links = set(re.findall(r'href="([^"]+\.html)"', page.read_text()))
    assert {"chest.html", "abdomen.html", "abdomen-kv/report.html", "chest-softmax/report.html"} <= links
    for link in links:
        target = out / link
        assert "<svg" in target.read_text()
        for further in re.findall(r'href="([^"]+\.html)"', target.read_text()):
            assert (out / further).exists()
    for part in ("abdomen-kv", "abdomen-softmax"):
        assert set(answer[part]["per_class"]) == {"large_bowel", "small_bowel", "stomach"}
