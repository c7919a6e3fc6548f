"""The page of a comparison and the placement of labels in its figures."""

from __future__ import annotations

import dataclasses
import datetime
import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from gossamer import __version__
from gossamer.comparison.compare_plan import read_plan, write_plan
from gossamer.comparison.folder import CompareFolder
from gossamer.comparison.results import collect_results
from gossamer.report.comparison_figures import plot_qualities, short_names
from gossamer.report.comparison_page import write_results
from gossamer.report.label_placement import Label, place_labels
from gossamer.variants import CostLimits, RuntimePrecision
from made_comparison import create_plan, variant, write_comparison, write_int8, write_run, write_states


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> CompareFolder:
    folder = write_comparison(
        tmp_path_factory.mktemp("made") / "comparison", limits=CostLimits(latency_ms=3.0), images=64
    )
    write_results(folder)
    return folder


def test_page_shows_results_and_failures(written: CompareFolder) -> None:
    page = written.report_path.read_text()
    text = unescape(page)
    results = collect_results(written, read_plan(written.plan_path))
    plan, summary = results.plan, json.loads(written.summary_path.read_text())
    assert f"<h1>{summary['recommendation']['headline']}</h1>" in text
    for shown in (
        *(each.variant.name for each in results.variants),
        *(each.state for each in results.variants if each.state != "done"),
        *(each.reason for each in plan.refused),
        *(trial.failed for each in results.variants for trial in each.trials if trial.failed),
        f"{plan.limits.latency_ms:g} ms",
        plan.command,
        datetime.date.today().isoformat(),
        __version__,
    ):
        assert shown in text, shown
    energy = results.variants[0].cost("energy", "torch")
    assert energy.value is None
    assert energy.detail in text
    assert page.count("<svg") == 7  # qualities, differences, three costs, two growths
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "nan" not in page.replace("tenant", "").lower().split("<svg")[0]


def test_page_has_no_absolute_path(tmp_path: Path) -> None:
    folder = CompareFolder(tmp_path / "comparison")
    folder.path.mkdir()
    plan = create_plan([variant("softmax")])
    data = dataclasses.replace(plan.data, source=str(tmp_path / "scans.npz"))
    request = dataclasses.replace(plan.request, data=data.source)
    command = f"gossamer compare {data.source} --out {folder.path}"
    write_plan(folder, dataclasses.replace(plan, data=data, request=request, command=command))
    write_results(folder)
    page = folder.report_path.read_text()
    assert str(tmp_path) not in page
    assert "gossamer compare scans.npz --out comparison" in page


def test_summary_holds_the_table_as_data(written: CompareFolder) -> None:
    summary = json.loads(written.summary_path.read_text())
    assert summary["complete"] is False
    assert summary["comparisons"] == 6
    variants = {each["attention"]: each for each in summary["kinds"]}
    assert variants["adaptive"]["quality"] is None
    assert len(variants["local"]["cells"]) == 3
    assert variants["local"]["cells"][2]["state"] == "waiting"
    assert variants["softmax"]["versus_twin"] is None
    assert variants["kv"]["versus_twin"]["p_holm"] >= variants["kv"]["versus_twin"]["p"]
    assert variants["kv"]["exponents"]["macs"] == pytest.approx(1.2)


def made(
    path: Path, *, patients: int, precisions: list[RuntimePrecision], seeds: tuple[int, ...]
) -> tuple[str, dict[str, Any]]:
    """Return the page and the summary of two mechanisms; bundles are of the first seed alone."""
    folder = CompareFolder(path)
    plan = create_plan(
        [variant("softmax"), variant("kv")], seeds=seeds, precisions=precisions, bundle_seeds=[0], epochs=1
    )
    folder.path.mkdir()
    write_plan(folder, plan)
    truth = np.arange(12) % 2
    for number, trial in enumerate(plan.trials):
        scores = np.round(0.3 + 0.3 * truth + 0.2 * np.random.default_rng(number).random(12), 6)
        won = (scores[truth == 1][:, None] > scores[truth == 0][None]).mean()
        write_run(folder, trial, scores, truth, [f"p{k % patients}" for k in range(12)], float(won))
        write_states(folder, trial, *plan.stages(trial))
        if "int8" in precisions and trial.seed == 0:
            write_int8(folder, trial, (0.01, 0.0, 0.02))
    write_results(folder)
    return folder.report_path.read_text(), json.loads(folder.summary_path.read_text())


def test_page_shows_only_the_chosen_precisions(tmp_path: Path) -> None:
    page, summary = made(tmp_path / "a", patients=12, precisions=["torch", "float32"], seeds=(0, 1))
    assert "int8" not in page
    assert '<th colspan="2">File, MB</th>' in page
    assert summary["kinds"][1]["int8_drop"] is None
    page, summary = made(tmp_path / "b", patients=12, precisions=["torch", "float32", "int8"], seeds=(0, 1))
    assert '<th colspan="3">File, MB</th>' in page
    assert f"{summary['kinds'][1]['int8_drop']['value']:+.3f}" in page
    assert ">240 s<" not in page
    assert ">4.0 min<" in page


def test_one_patient_has_no_interval_and_no_test(tmp_path: Path) -> None:
    page, summary = made(tmp_path / "a", patients=1, precisions=["torch"], seeds=(0,))
    assert page.count(">no interval<") >= 2  # of each variant
    assert "1 patients" not in page
    assert "nan" not in page.split("<svg")[0].replace("tenant", "")
    assert summary["interval"] is None
    assert summary["recommendation"]["chosen"] is None
    assert summary["kinds"][1]["versus_twin"]["p"] is None
    assert len(summary["notes"]) == 1


def test_differences_need_a_baseline(tmp_path: Path) -> None:
    folder = CompareFolder(tmp_path)
    plan = create_plan([variant("kv")], seeds=(0,))
    write_plan(folder, plan)
    write_run(folder, plan.trials[0], np.array([0.2, 0.7, 0.4]), np.array([0, 1, 0]), ["a", "b", "c"], 1.0)
    write_states(folder, plan.trials[0], "train")
    write_results(folder)
    page = folder.report_path.read_text()
    assert page.count("<svg") == 1
    assert "1 network on" in page


@pytest.mark.parametrize(("trivial", "drawn"), [(0.5, True), (-5.0, False)])
def test_distant_trivial_answer_does_not_widen_the_axis(written: CompareFolder, trivial: float, drawn: bool) -> None:
    results = dataclasses.replace(collect_results(written, read_plan(written.plan_path)), trivial=trivial)
    (axes,) = plot_qualities(results).axes
    assert (axes.get_xlim()[0] <= trivial) == drawn
    (text,) = axes.texts
    assert (f"{trivial:.2f}" in text.get_text()) != drawn


def test_writing_again_gives_the_same_files(written: CompareFolder) -> None:
    files = (written.table_path, written.summary_path, written.report_path)
    before = [path.read_bytes() for path in files]
    write_results(written)
    assert [path.read_bytes() for path in files] == before


def test_comparison_without_results_has_a_page(tmp_path: Path) -> None:
    folder = CompareFolder(tmp_path)
    write_plan(folder, create_plan([variant("softmax"), variant("kv")]))
    write_results(folder)
    page = folder.report_path.read_text()
    assert page.count(">0 of 2 done<") == 2
    assert "<svg" not in page


def test_figures_use_short_names() -> None:
    one = [variant("softmax"), variant("kv"), variant(None, "resnet_18")]
    assert list(short_names(one).values()) == ["softmax", "kv", "resnet_18"]
    two = [variant("softmax"), variant("softmax", "apformer")]
    assert list(short_names(two).values()) == ["vit_tiny softmax", "apformer softmax"]
    settings = [variant('{"name": "sequence_norm", "heads": 2}'), variant("kv")]
    assert list(short_names(settings).values()) == ["sequence_norm…", "kv"]


def test_labels_cover_no_label_point_or_line() -> None:
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
