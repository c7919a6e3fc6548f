"""Calls that are timed together alternate."""

from __future__ import annotations

from gossamer.profiling.latency import measure_latencies


def test_calls_take_turns_after_a_warm_up() -> None:
    made: list[str] = []
    found = measure_latencies({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, seconds=0, min_rounds=5)
    assert "".join(made) == "aaabbb" + "ab" * 5
    assert {name: latency.calls for name, latency in found.items()} == {"a": 5, "b": 5}
    assert all(0 <= latency.p50_ms <= latency.p95_ms for latency in found.values())


def test_rounds_end_at_the_limit() -> None:
    found = measure_latencies({"a": lambda: None}, seconds=60, min_rounds=1, max_rounds=7)
    assert found["a"].calls == 7
