"""The names of the tasks that a model can be trained for."""

from __future__ import annotations

from typing import Literal

TaskName = Literal["classify", "segment"]
"""``classify``: a label describes a whole image; ``segment``: a label describes a pixel."""

PIXEL_TASKS: frozenset[TaskName] = frozenset({"segment"})
"""Tasks whose result is one label, or several, for each pixel."""
