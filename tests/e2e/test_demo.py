"""The demo at its smallest size: both parts, every step, and one page that leads through them."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

import gossamer
from gossamer.cli.main import build_app, run
from gossamer.errors import ErrorCode, GossamerError

SMALL = ["--count", "220", "--epochs", "1", "--cases", "9", "--mask-epochs", "1", "--threads", "1"]


@pytest.mark.slow
def test_demo_leads_through_every_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.api.demo.MAX_DROP", 1.0)  # one epoch teaches too little to be kept in int8
    out = tmp_path / "demo"
    assert run(["demo", "--out", str(out), *SMALL, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    page = Path(answer["report"]).read_text()
    assert Path(answer["report"]) == out.resolve() / "report.html"
    links = set(re.findall(r'href="([^"]+\.html)"', page))
    assert links == {"runs/chest/report.html", "runs/abdomen/report.html"}
    assert all((out / link).exists() for link in links)
    assert page.count("data:image/png;base64,") >= 13  # inputs and predictions of both parts, and a legend
    assert page.count("<svg") == 2
    assert str(tmp_path) not in page
    for bundle in ("chest", "chest-int8", "abdomen", "abdomen-int8"):
        assert (out / "bundles" / bundle / "manifest.json").exists()
    assert len((out / "predictions/chest.csv").read_text().splitlines()) == 221
    assert (out / "predictions/abdomen").is_dir()
    assert set(answer["abdomen"]["per_class"]) == {"large_bowel", "small_bowel", "stomach"}
    for part, metric in (("chest", "auroc"), ("abdomen", "dice")):
        assert f"{answer[part]['metrics'][metric]['value']:.3f}" in page
        assert f"{answer[part]['int8'][metric]['value']:.3f}" in page
    commands = re.findall(r"<code>gossamer ([^<]+)</code>", unescape(page))
    assert {command.split()[0] for command in commands} >= {
        "data", "train", "export", "quantize", "evaluate", "predict",
    }  # fmt: skip
    app = build_app()
    for command in commands:  # every command of the page is one that the parser takes
        app.parse_args(command.split(), print_error=False, exit_on_error=False)


def test_demo_replaces_nothing_but_a_demo(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(GossamerError) as error:
        gossamer.run_demo(tmp_path)
    assert error.value.code == ErrorCode.OUTPUT
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
