"""What planning and comparison share: a network with a mechanism, the forms it runs in, and the limits it must meet."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Literal

from gossamer.checks import require
from gossamer.extension import describe_reference

RuntimePrecision = Literal["torch", "float32", "int8"]
"""PyTorch in float32, and an exported bundle in float32 or int8."""
PRECISIONS: tuple[RuntimePrecision, ...] = ("torch", "float32", "int8")
PRECISION_NAMES: dict[RuntimePrecision, str] = {"torch": "PyTorch", "float32": "float32", "int8": "int8"}
"""Name of each precision for people."""
USUAL_MECHANISMS = ("softmax", "sequence_norm", "kv")
"""Attention mechanisms that are compared by default, and that a plan tries in addition to a network's own."""
MB = 10**6
"""Bytes of a megabyte, the unit in which memory is limited."""
_LONGEST_KEY = 80
"""Characters of a key; a longer one is cut and ends with a checksum."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A network with an attention mechanism: one row of a table.

    Attributes:
        model: Name of a preset.
        attention: Attention mechanism, by name or as a JSON object; None for a network without one. A mechanism of a
            user's file is a JSON object with path and SHA-256.
    """

    model: str
    attention: str | None

    @property
    def name(self) -> str:
        """Name for people, as tables show it."""
        return self.model if self.attention is None else f"{self.model} with {self.mechanism_name}"

    @property
    def mechanism_name(self) -> str:
        """Attention mechanism for people; a class of a user is named without the folders of its file."""
        return "no attention" if self.attention is None else describe_reference(self.attention)

    @property
    def key(self) -> str:
        """Name that is allowed for a file."""
        words = self.model if self.attention is None else f"{self.model}-{self.attention}"
        shown = self.model if self.attention is None else f"{self.model}-{self.mechanism_name}"
        kept = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in shown)
        unique = len(kept) <= _LONGEST_KEY and words == shown
        return kept if unique else f"{kept[:60]}-{zlib.crc32(words.encode()):08x}"


@dataclass(frozen=True, kw_only=True)
class CostLimits:
    """Limits of the machine on which a network shall run. None stands for no limit.

    Attributes:
        latency_ms: Largest median latency of one image, in milliseconds.
        memory_mb: Largest peak memory of a process, in MB of 10^6 bytes.

    Raises:
        GossamerError: ``E-CONFIG`` for a limit that is not a finite number above 0.
    """

    latency_ms: float | None = None
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        for option, limit in (("max_latency_ms", self.latency_ms), ("max_memory_mb", self.memory_mb)):
            if limit is not None:
                require(0 < limit < math.inf, option, f"{limit} is not positive", "use a finite number above 0")
