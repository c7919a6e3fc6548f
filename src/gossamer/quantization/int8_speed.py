"""Time that int8 saves on this machine: calls in float32 and in int8, in turns in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer import config
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.engines import ENGINES, load_engine
from gossamer.profiling.latency import measure_latencies


@dataclass(frozen=True, kw_only=True)
class Int8Speed:
    """Latency of one image or window in one engine, in float32 and in int8.

    Attributes:
        engine: Name and version of the engine.
        threads: Number of CPU threads; None if the engine chooses.
        float32_ms: Median latency in float32, in ms.
        int8_ms: Median latency in int8, in ms, of calls that alternate with those in float32.
        float32_p95_ms: 95th percentile of the latency in float32, in ms.
        int8_p95_ms: 95th percentile of the latency in int8, in ms.
    """

    engine: str
    threads: int | None
    float32_ms: float
    int8_ms: float
    float32_p95_ms: float
    int8_p95_ms: float

    @property
    def gain(self) -> float:
        """Median latency in float32 divided by that in int8; above 1 if int8 is faster."""
        return self.float32_ms / self.int8_ms

    def to_json(self) -> dict[str, Any]:
        """Return the latencies as data."""
        return {**config.to_json(self), "gain": self.gain}

    def __str__(self) -> str:
        threads = "the engine's number of threads" if self.threads is None else f"{self.threads} threads"
        times = f"{self.int8_ms:.2f} ms in int8, {self.float32_ms:.2f} ms in float32"
        verdict = f"{self.gain:.2f} times faster" if self.gain > 1 else "int8 is NOT faster on this machine"
        return f"{self.engine}, {threads}: {times}: {verdict}"


def measure_int8_speeds(
    float32: bytes, int8: bytes, window: np.ndarray, threads: int | None, *, seconds: float = 3.0
) -> tuple[Int8Speed, ...]:
    """Return the latencies of two graphs in every installed engine, with the same number of threads.

    Args:
        float32: Content of the float32 ONNX file.
        int8: Content of the ONNX file of the same network in int8.
        window: One network input, float32 ``(1, channels, rows, columns)``.
        threads: Number of CPU threads; None to let the engine choose.
        seconds: Approximate time spent on each engine, in seconds.

    Raises:
        GossamerError: An installed engine cannot run one of the graphs.
    """
    found = []
    for name in ENGINES:
        try:
            engines = {
                precision: load_engine(name, model, Path(precision), threads)
                for precision, model in (("float32", float32), ("int8", int8))
            }
        except GossamerError as error:
            if error.code is ErrorCode.CODEC:
                continue  # not installed
            raise
        times = measure_latencies(
            {precision: lambda engine=engine: engine.run(window) for precision, engine in engines.items()},
            seconds=seconds,
        )
        found.append(
            Int8Speed(
                engine=f"{name} {engines['int8'].version}",
                threads=threads,
                float32_ms=times["float32"].p50_ms,
                int8_ms=times["int8"].p50_ms,
                float32_p95_ms=times["float32"].p95_ms,
                int8_p95_ms=times["int8"].p95_ms,
            )
        )
    return tuple(found)
