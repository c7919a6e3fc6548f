"""Waiting for a processor is told from running, with the system's own count of it and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.profiling import cpu_contention
from gossamer.profiling.latency import Latency, measure_latencies, measure_latency


def clocks(
    monkeypatch: pytest.MonkeyPatch, delays: list[dict[str, float]], cpu: list[float], wall: list[float]
) -> None:
    left = iter(delays), iter(cpu), iter(wall)
    monkeypatch.setattr(cpu_contention, "_read_delays", lambda: next(left[0]))
    monkeypatch.setattr(cpu_contention.time, "process_time", lambda: next(left[1]))
    monkeypatch.setattr(cpu_contention.time, "perf_counter", lambda: next(left[2]))


def test_the_share_is_waited_over_waited_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two threads waited 1 s and 0.5 s, one of them new; 4.5 s of two processors were had in 3 s.
    clocks(monkeypatch, [{"7": 2.0}, {"7": 3.0, "8": 0.5}], [10.0, 14.5], [50.0, 53.0])
    assert cpu_contention.ContentionTimer().share() == pytest.approx(1.5 / 6.0)


@pytest.mark.parametrize(("ran", "share"), [(1.5, 0.25), (2.0, 0.0), (3.9, 0.0)])
def test_without_a_count_the_two_clocks_tell(ran: float, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, [{}, {}], [10.0, 10.0 + ran], [50.0, 52.0])
    assert cpu_contention.ContentionTimer().share() == pytest.approx(share)


def test_delays_are_nanoseconds_of_each_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for thread, text in (("12", "500 2000000000 3"), ("13", "1 250000000 1")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    monkeypatch.setattr(cpu_contention, "_TASKS", str(tmp_path))
    assert cpu_contention._read_delays() == {"12": 2.0, "13": 0.25}
    (tmp_path / "13" / "schedstat").unlink()
    assert cpu_contention._read_delays() == {}


def test_latencies_carry_it_and_figures_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_contention.ContentionTimer, "share", lambda self: 0.34)
    one = measure_latency(lambda: None, seconds=0.0, min_calls=2)
    (turn,) = measure_latencies({"a": lambda: None}, seconds=0.0, min_rounds=2).values()
    for latency in (one, turn):
        assert latency.busy
        assert "busy (34 % waited): an upper bound" in latency.remark
    assert not Latency(1.0, 2.0, 3, cpu_contention.BUSY_SHARE).busy
    assert Latency(1.0, 2.0, 3).remark == ""
