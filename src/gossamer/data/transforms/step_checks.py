"""Checks of the numbers of a step, when the step is made, so that none of them spoils an image later.

They are stricter than those of ``gossamer.checks``: images are float32, and a frame has a largest size.
"""

from __future__ import annotations

from gossamer.checks import require
from gossamer.data.image import MAX_FRAME_PIXELS

LEAST, MOST = 1e-30, 1e30
"""Smallest and largest factor and divisor of images: float32 holds the number and its inverse."""


def require_frame(step: str, rows: int, columns: int) -> None:
    """Raise for a size without pixels, or with more pixels than an image may have.

    Raises:
        GossamerError: ``E-CONFIG``, naming the field.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        require(value >= 1, f"{step}.{name}", f"{value} is less than 1", "use 1 or more")
    problem = f"{rows}x{columns} are more than {MAX_FRAME_PIXELS} pixels"
    require(rows * columns <= MAX_FRAME_PIXELS, f"{step}.rows", problem, "use fewer rows or columns")


def require_number(step: str, **values: float) -> None:
    """Raise for NaN, infinity, and numbers that are too large for a pixel.

    Raises:
        GossamerError: ``E-CONFIG``, naming the field.
    """
    for name, value in values.items():
        problem = f"{value} is not between {-MOST:g} and {MOST:g}"
        require(-MOST <= value <= MOST, f"{step}.{name}", problem, "use a finite number")


def require_positive(step: str, **values: float) -> None:
    """Raise for numbers that are not above 0, and those that float32 rounds to 0 or infinity.

    Raises:
        GossamerError: ``E-CONFIG``, naming the field.
    """
    for name, value in values.items():
        problem = f"{value} is not between {LEAST:g} and {MOST:g}"
        require(LEAST <= value <= MOST, f"{step}.{name}", problem, "use a number above 0")
