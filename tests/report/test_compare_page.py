"""The page of a comparison: what it says, and that its labels stand apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from gossamer.compare.folder import CompareFolder
from gossamer.compare.plan_file import Limits, write_plan
from gossamer.report.compare_figures import short_names
from gossamer.report.compare_page import write_results
from gossamer.report.place_labels import Label, place_labels
from made_comparison import kind, plan_of, write_comparison


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> CompareFolder:
    folder = write_comparison(tmp_path_factory.mktemp("made") / "comparison", limits=Limits(latency_ms=3.0), images=64)
    write_results(folder)
    return folder


def test_the_page_says_what_was_found_and_what_was_not(written: CompareFolder) -> None:
    page = written.report.read_text()
    summary = json.loads(written.summary.read_text())
    assert f"<h1>{summary['recommendation']['headline']}</h1>" in page
    for words in (
        "at most 3 ms an image",
        "The trivial answer",
        "ended with status 70: E-BUG: the loss is no number",
        "a convolutional network has no attention",
        "gossamer compare scans.npz",
        "Energy is not drawn, since it was not measured: no counter can be read.",
        "quantize failed, 3 of 3",
        "2 of 3 done",
        "does not prove",
    ):
        assert words in page, words
    assert page.count("<svg") == 7  # qualities, differences, three costs, two growths
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "nan" not in page.replace("tenant", "").lower().split("<svg")[0]


def test_the_summary_holds_the_table_as_data(written: CompareFolder) -> None:
    summary = json.loads(written.summary.read_text())
    assert summary["complete"] is False
    assert summary["comparisons"] == 6
    kinds = {each["attention"]: each for each in summary["kinds"]}
    assert kinds["adaptive"]["quality"] is None
    assert len(kinds["local"]["cells"]) == 3
    assert kinds["local"]["cells"][2]["state"] == "waiting"
    assert kinds["softmax"]["versus_twin"] is None
    assert kinds["kv"]["versus_twin"]["p_holm"] >= kinds["kv"]["versus_twin"]["p"]
    assert kinds["kv"]["exponents"]["macs"] == pytest.approx(1.2)


def test_writing_again_gives_the_same_files(written: CompareFolder) -> None:
    files = (written.table, written.summary, written.report)
    before = [path.read_bytes() for path in files]
    write_results(written)
    assert [path.read_bytes() for path in files] == before


def test_a_comparison_that_has_not_begun_has_a_page_too(tmp_path: Path) -> None:
    folder = CompareFolder(tmp_path)
    write_plan(folder, plan_of([kind("softmax"), kind("kv")]))
    write_results(folder)
    page = folder.report.read_text()
    assert "Nothing to recommend yet" in page
    assert "0 of 2 done" in page
    assert "<svg" not in page


def test_kinds_have_short_names_in_figures() -> None:
    one = [kind("softmax"), kind("kv"), kind(None, "resnet_18")]
    assert list(short_names(one).values()) == ["softmax", "kv", "resnet_18"]
    two = [kind("softmax"), kind("softmax", "apformer")]
    assert list(short_names(two).values()) == ["vit_tiny softmax", "apformer softmax"]
    settings = [kind('{"name": "sequence_norm", "heads": 2}'), kind("kv")]
    assert list(short_names(settings).values()) == ["sequence_norm…", "kv"]


def test_labels_cover_neither_each_other_nor_a_point_nor_a_line() -> None:
    generator = np.random.default_rng(0)
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    x, y = generator.normal(size=14), generator.normal(size=14)
    x[1], y[1] = x[0] + 0.01, y[0]  # nearly in one place
    axes.plot(x, y, "o", markersize=6)
    axes.set(xlim=(-4, 4), ylim=(-4, 4))
    level = ((-4.0, 0.0), (4.0, 0.0))
    labels = [Label(f"{k} mechanism" if k < 4 else str(k), x[k], y[k], "black", k < 4) for k in range(14)]
    place_labels(axes, labels, [level])
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [a.get_window_extent(renderer) for a in axes.texts if isinstance(a, Annotation) and a.get_text()]
    assert len(boxes) == 14
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])
        for point in zip(x, y, strict=True):
            assert not box.contains(*axes.transData.transform(point))
        height = axes.transData.transform((0, 0))[1]
        assert not box.y0 < height < box.y1
