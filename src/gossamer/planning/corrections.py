"""Estimates of costs, corrected by what was measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from gossamer.planning.benchmark import TORCH, BenchmarkResult, Form
from gossamer.planning.candidates import ModelCandidate
from gossamer.planning.cost_estimates import EstimatedCandidate
from gossamer.profiling.figure import Figure
from gossamer.variants import MB

TORCH_FORM: Form = (TORCH, TORCH)
Benchmarks = Mapping[ModelCandidate, Sequence[BenchmarkResult]]
"""The measured forms of each measured candidate."""


def index_forms(results: Sequence[BenchmarkResult]) -> dict[Form, BenchmarkResult]:
    """Return the results of a candidate by their precision and engine."""
    return {(result.precision, result.engine): result for result in results}


class Corrections:
    """Corrected estimates: a factor for latency, an addition for memory.

    The factor is the median of measured divided by estimated latency: of the same preset if any of its candidates was
    measured, else of all presets. If a preset was timed only in PyTorch, the factor of its bundles follows from the
    ratio of bundles to PyTorch for other presets.

    Args:
        estimated: Candidates with their estimates.
        benchmarks: Measurements.
    """

    def __init__(self, estimated: Sequence[EstimatedCandidate], benchmarks: Benchmarks) -> None:
        self._factors: dict[tuple[Form, str | None], list[float]] = defaultdict(list)
        self._torch_ratios: dict[Form, list[float]] = defaultdict(list)
        self._additions: dict[Form, list[float]] = defaultdict(list)
        for one in estimated:
            measured = index_forms(benchmarks.get(one.candidate, ()))
            torch_ms = measured[TORCH_FORM].latency_p50.value if TORCH_FORM in measured else None
            for form, benchmark in measured.items():
                latency, memory = benchmark.latency_p50.value, benchmark.peak_memory.value
                if latency is not None:
                    factor = one.candidate.windows * latency / one.bound_ms
                    for model in (one.candidate.variant.model, None):
                        self._factors[form, model].append(factor)
                    if torch_ms:
                        self._torch_ratios[form].append(latency / torch_ms)
                if memory is not None and one.memory.value is not None:
                    self._additions[form].append(memory - one.memory.value)

    def can_estimate(self, form: Form) -> bool:
        """Return whether there is an estimate for a precision and engine."""
        return form == TORCH_FORM or bool(self._torch_ratios[form])

    def estimate_latency_ms(self, one: EstimatedCandidate, form: Form) -> float:
        """Return the latency of one image in milliseconds.

        Args:
            one: Candidate with its estimate.
            form: Precision and engine.
        """
        return one.bound_ms * self._factor(one, form)[0]

    def estimate_latency(self, one: EstimatedCandidate, form: Form) -> Figure:
        """Return the latency of one image as a figure.

        Args:
            one: Candidate with its estimate.
            form: Precision and engine.
        """
        factor, source = self._factor(one, form)
        detail = f"MACs at the rate of a large matrix product, times {factor:.2g} {source}"
        return Figure(one.bound_ms * factor, "ms", "modelled", detail)

    def estimate_memory(self, one: EstimatedCandidate, form: Form) -> Figure:
        """Return the peak memory of a process as a figure.

        Args:
            one: Candidate with its estimate.
            form: Precision and engine.
        """
        added = self._additions[form]
        if one.memory.value is None:
            return one.memory
        if not added and form != TORCH_FORM:
            return Figure(None, "bytes", "unavailable", "no candidate was measured")
        shift = statistics.median(added) if added else 0.0
        detail = f"{one.memory.detail}, {shift / MB:+.0f} MB as measured for others" if added else one.memory.detail
        return Figure(max(0.0, one.memory.value + shift), "bytes", "modelled", detail)

    def _factor(self, one: EstimatedCandidate, form: Form) -> tuple[float, str]:
        """Return the factor of the latency and where it comes from."""
        model = one.candidate.variant.model
        if own := self._factors[form, model]:
            return statistics.median(own), f"as measured for {model}"
        if form != TORCH_FORM and self._torch_ratios[form]:
            factor, source = self._factor(one, TORCH_FORM)
            return factor * statistics.median(self._torch_ratios[form]), f"{source} in PyTorch, and for other bundles"
        if every := self._factors[form, None]:
            return statistics.median(every), "as measured for other networks"
        return 1.0, "(a lower bound)"
