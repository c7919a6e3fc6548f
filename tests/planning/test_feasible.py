"""Candidates, estimates and their corrections, verdicts, and one network that is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import gossamer.planning.feasible as feasible
from gossamer.data import open_dataset
from gossamer.data.preparation.segmentation import SegmentationSurvey
from gossamer.data.synthetic.abdomen import write_abdomen
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.models import ViTConfig
from gossamer.planning.benchmark import NOT_MADE, TORCH, BenchmarkResult, find_engines, measure_candidate
from gossamer.planning.candidates import ModelCandidate, list_candidates
from gossamer.planning.corrections import Corrections
from gossamer.planning.cost_estimates import EstimatedCandidate, order_candidates, worst_ratio
from gossamer.planning.feasible import find_feasible, judge_candidates
from gossamer.planning.segmentation import count_windows
from gossamer.profiling.figure import Figure
from gossamer.variants import CostLimits, Variant

LIMITS = CostLimits(latency_ms=100.0, memory_mb=300.0)
FORMS = [(TORCH, "torch"), ("float32", "onnxruntime"), ("int8", "onnxruntime")]


def create_estimate(
    model: str, macs: int, *, size: int = 16, memory: float = 200e6, windows: int = 1
) -> EstimatedCandidate:
    """Return a candidate whose bound is one ms for every million multiply-accumulates."""
    network = ViTConfig(image_size=(size, size + 8), patch_size=8, dim=32, depth=1, num_heads=2, num_classes=3)
    candidate = ModelCandidate(variant=Variant(model=model, attention="softmax"), network=network, windows=windows)
    figure = Figure(memory, "bytes", "modelled", "given")
    return EstimatedCandidate(candidate=candidate, parameters=7, macs=macs, bound_ms=macs / 1e6, memory=figure)


def create_benchmark(p50: float | None, memory: float | None, form: tuple = FORMS[0]) -> BenchmarkResult:
    def figure(value: float | None, unit: str) -> Figure:
        return Figure(value, unit, "unavailable" if value is None else "measured", "given")

    return BenchmarkResult(
        precision=form[0],
        engine=form[1],
        latency_p50=figure(p50, "ms"),
        latency_p95=figure(p50 and 2 * p50, "ms"),
        peak_memory=figure(memory, "bytes"),
    )


def test_worst_ratio_ignores_costs_without_a_limit() -> None:
    assert worst_ratio(LIMITS, 50.0, 600e6) == 2.0
    assert worst_ratio(CostLimits(latency_ms=100.0), 50.0, 600e6) == 0.5
    assert worst_ratio(LIMITS, None, None) == 0.0


def test_presets_take_turns_and_distant_candidates_are_omitted() -> None:
    ones = [
        create_estimate("a", 90_000_000),
        create_estimate("a", 80_000_000, size=24),
        create_estimate("b", 10_000_000),
        create_estimate("c", 250_000_000),
    ]
    far = [create_estimate("d", 301_000_000), create_estimate("e", 1_000_000, memory=901e6)]
    ordered = order_candidates([*far, *ones], LIMITS, lambda one: one.bound_ms)
    assert [(one.candidate.variant.model, one.macs // 1_000_000) for one in ordered] == [
        ("a", 90), ("b", 10), ("a", 80), ("c", 250),
    ]  # fmt: skip


def test_measurements_correct_other_estimates() -> None:
    measured, same, other = (
        create_estimate("a", 10_000_000),
        create_estimate("a", 30_000_000, size=24),
        create_estimate("b", 20_000_000),
    )
    graph = FORMS[1]
    benchmarks = {measured.candidate: [create_benchmark(25.0, 230e6), create_benchmark(5.0, 90e6, graph)]}
    model = Corrections([measured, same, other], benchmarks)
    assert model.estimate_latency_ms(same, FORMS[0]) == pytest.approx(75.0)
    assert model.estimate_latency_ms(other, graph) == pytest.approx(10.0)
    # Where PyTorch was timed of the preset itself, its bundles are as much quicker than that as those of others.
    timed = Corrections([measured, same, other], {**benchmarks, other.candidate: [create_benchmark(80.0, None)]})
    assert timed.estimate_latency_ms(other, graph) == pytest.approx(80.0 * 5 / 25)
    assert model.estimate_memory(other, FORMS[0]).value == pytest.approx(230e6)
    assert model.estimate_memory(other, graph).value == pytest.approx(90e6)
    assert not model.can_estimate(FORMS[2])
    assert Corrections([measured], {}).estimate_latency_ms(measured, FORMS[0]) == 10.0


def test_verdicts_and_their_order() -> None:
    small, large, slow, lost = (
        create_estimate(name, macs) for name, macs in zip("abcd", (10**7, 3 * 10**7, 10**8, 10**6), strict=True)
    )
    benchmarks = {
        small.candidate: [create_benchmark(20.0, 210e6)],
        slow.candidate: [create_benchmark(130.0, 210e6)],
        lost.candidate: [create_benchmark(None, None)],
    }
    rows = judge_candidates([slow, small, lost, large], benchmarks, FORMS, LIMITS)
    # ``large`` is forecast from the median of the factors 2 and 1.3.
    assert [(row.estimated.candidate.variant.model, row.verdict, row.certain) for row in rows] == [
        ("a", "yes", True), ("b", "yes", False), ("c", "no", True), ("d", "unavailable", False),
    ]  # fmt: skip
    assert rows[1].latency.value == pytest.approx(30.0 * 1.65)
    assert rows[2].worst_ratio == pytest.approx(1.3)
    assert rows[2].latency.how == "measured"


def test_memory_limit_needs_a_figure_of_memory() -> None:
    one = create_estimate("a", 10**7)
    unknown = replace(one, memory=Figure(None, "bytes", "unavailable", "none"))
    (row,) = judge_candidates([unknown], {one.candidate: [create_benchmark(20.0, None)]}, FORMS[:1], LIMITS)
    assert row.verdict == "unavailable"
    (row,) = judge_candidates(
        [unknown], {one.candidate: [create_benchmark(20.0, None)]}, FORMS[:1], CostLimits(latency_ms=100.0)
    )
    assert (row.verdict, row.certain) == ("yes", True)


def test_latency_of_an_image_covers_all_windows() -> None:
    one = create_estimate("a", 10**7, windows=7)
    (row,) = judge_candidates([one], {one.candidate: [create_benchmark(20.0, 210e6)]}, FORMS[:1], LIMITS)
    assert (row.latency.value, row.latency_p95.value, row.verdict) == (140.0, 280.0, "no")


def test_windows_of_the_median_case() -> None:
    found = SegmentationSurvey((48, 30), (60, 44), 5, 1, "uint8", 0.0, 255.0, None, spacings_differ=False)
    # Rows: 48 in windows of 32 that share half: at 0 and 16; columns: one.
    assert count_windows(found, SlidingWindow((32, 32))) == 5 * 2
    # Twice as many rows and columns at the finer spacing: 48 and 60 in steps of 16: 2 and 3 windows.
    stretched = replace(found, shape=(24, 60), spacing_mm=(2.0, 1.0), spacings_differ=True)
    assert count_windows(stretched, SlidingWindow((32, 32))) == 5 * 2 * 3


def test_promising_candidates_are_measured_until_the_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ViTConfig(image_size=(16, 24), patch_size=8, dim=32, depth=1, num_heads=2, num_classes=3)
    candidates = [
        ModelCandidate(variant=Variant(model=name, attention="softmax"), network=replace(network, dim=dim))
        for name, dim in (("narrow", 32), ("wide", 128), ("huge", 1024))
    ]
    bound = {one.variant.model: 1e3 * one.network.build().cost().macs / 1e9 for one in candidates}
    called: list[str] = []

    def quick(candidate: ModelCandidate) -> BenchmarkResult:
        called.append(f"quick {candidate.variant.model}")
        return create_benchmark(3 * bound[candidate.variant.model], None)

    def full(candidate: ModelCandidate, **options: object) -> list[BenchmarkResult]:
        called.append(f"full {candidate.variant.model}")
        p50 = 3 * bound[candidate.variant.model]
        return [
            create_benchmark(p50, None),
            create_benchmark(p50 / 2, None, FORMS[1]),
            create_benchmark(None, None, FORMS[2]),
        ]

    monkeypatch.setattr(feasible, "measure_matrix_rate", lambda: 1e9)
    monkeypatch.setattr(feasible, "time_network", quick)
    monkeypatch.setattr(feasible, "measure_candidate", full)
    limits = CostLimits(latency_ms=4 * bound["wide"])
    found = find_feasible(candidates, limits, engines=["onnxruntime"], threads=1, seconds=60.0)
    assert called == ["quick wide", "quick narrow", "full wide", "full narrow"]
    assert (found.measured, found.timed) == (2, 0)
    assert [row.estimated.candidate.variant.model for row in found.within] == ["wide", "wide", "narrow", "narrow"]
    assert found.closest is not None
    assert found.closest.estimated.candidate.variant.model == "huge"
    assert not found.closest.certain
    called.clear()
    found = find_feasible(candidates, limits, engines=["onnxruntime"], threads=1, seconds=0.0)
    assert called == []
    assert not any(row.certain for row in found.rows)


def test_candidates_for_classification(phantom: Path) -> None:
    dataset = open_dataset(phantom, seed=0)
    found, refused = list_candidates(dataset, models=["vit_nano", "sadnn_classifier_small"])
    variants = {(one.variant.model, one.variant.attention) for one in found}
    assert variants == {
        ("vit_nano", "softmax"), ("vit_nano", "sequence_norm"), ("vit_nano", "kv"), ("sadnn_classifier_small", None),
    }  # fmt: skip
    assert {one.image_size for one in found if one.variant.attention == "kv"} == {(8, 8), (16, 16), (32, 32)}
    assert {one.network.in_channels for one in found} == {1}
    assert refused == []
    found, refused = list_candidates(dataset, models=["vit_nano"], attention=["kv"], image_sizes=[(16, 24), (15, 16)])
    assert [one.image_size for one in found] == [(16, 24)]
    assert len(refused) == 1
    assert "15x16" in refused[0]
    with pytest.raises(GossamerError) as error:
        list_candidates(dataset, models=["vit_nono"])
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, "models")
    with pytest.raises(GossamerError) as error:
        list_candidates(dataset, models=["vit_nano"], image_sizes=[(15, 15)])
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, "vit_nano")


def test_candidates_for_volumes(tmp_path: Path) -> None:
    dataset = open_dataset(write_abdomen(tmp_path / "abdomen", cases=7, days=1, slices=4, size=(30, 44)), seed=0)
    found, _ = list_candidates(dataset, models=["cvt_small"], attention=["softmax"])
    windows = {one.image_size: one.windows for one in found}
    assert (32, 48) in windows
    assert windows[32, 48] == 4
    # The whole slice is seen already: twice the window would only add border.
    assert (64, 96) not in windows
    assert windows[min(windows)] > 4
    assert {one.network.in_channels for one in found} == {3}


def test_network_is_measured_in_every_precision() -> None:
    network = ViTConfig(image_size=(16, 24), in_channels=2, patch_size=8, dim=32, depth=1, num_heads=2, num_classes=3)
    candidate = ModelCandidate(variant=Variant(model="vit_nano", attention="softmax"), network=network)
    found = measure_candidate(candidate, engines=["onnxruntime"], threads=1, seconds=0.1)
    assert [(one.precision, one.engine) for one in found] == FORMS
    for one in found:
        assert one.latency_p50.how == "measured"
        assert 0 < one.latency_p50.value <= one.latency_p95.value  # type: ignore[operator]
        assert one.peak_memory.how in ("measured", "unavailable")
    if found[0].peak_memory.value is not None:  # a process with torch is the larger by far
        assert found[1].peak_memory.value < 0.9 * found[0].peak_memory.value  # type: ignore[operator]


def test_no_graph_is_made_of_a_hopeless_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.planning.benchmark.measure_peak_memory", lambda *given, **named: None)
    found = measure_candidate(
        create_estimate("a", 1).candidate, engines=["onnxruntime"], threads=1, hopeless_ms=0.0, seconds=0.1
    )
    assert [one.latency_p50.how for one in found] == ["measured", "unavailable", "unavailable"]
    assert found[1].latency_p50.detail.startswith(NOT_MADE)
    assert found[0].peak_memory.how == "unavailable"


def test_installed_engines_are_found() -> None:
    assert "onnxruntime" in find_engines()
    assert find_engines(["onnxruntime"]) == ["onnxruntime"]
    with pytest.raises(GossamerError) as error:
        find_engines(["tensorflow"])
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, "engine")
