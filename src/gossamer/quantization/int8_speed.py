"""What 8 bits save on this machine: bytes, and time of a call side by side in one process."""

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
    """Latency of a window in one engine, in floating point and in 8 bits.

    Attributes:
        engine: with its version.
        threads: of the processor; None where the engine chooses.
        float32_ms: median.
        int8_ms: median, of calls that alternate with those in floating point.
        float32_p95_ms: 95th percentile.
        int8_p95_ms: the same in 8 bits.
    """

    engine: str
    threads: int | None
    float32_ms: float
    int8_ms: float
    float32_p95_ms: float
    int8_p95_ms: float

    @property
    def gain(self) -> float:
        """How many times faster 8 bits are."""
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
    """Return the latencies of two graphs in every engine that is installed and takes both, with the same threads.

    Args:
        float32: content of an ONNX file.
        int8: the same network in 8 bits.
        window: float32 ``(1, channels, rows, columns)``.
        threads: of the processor.
        seconds: about how long to time an engine.

    Raises:
        GossamerError: where an engine that is installed cannot run one of them.
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
        plain, short = times["float32"], times["int8"]
        found.append(
            Int8Speed(
                engine=f"{name} {engines['int8'].version}",
                threads=threads,
                float32_ms=plain.p50_ms,
                int8_ms=short.p50_ms,
                float32_p95_ms=plain.p95_ms,
                int8_p95_ms=short.p95_ms,
            )
        )
    return tuple(found)
