"""What the numbers of a step must be: asked when the step is made, so that none of them spoils an image later."""

from __future__ import annotations

from gossamer.data.image import MAX_FRAME_PIXELS
from gossamer.errors import ErrorCode, GossamerError

LEAST, MOST = 1e-30, 1e30
"""Of numbers that images are multiplied with, or divided by: float32 holds them, and what one over them is."""


def require_frame(step: str, rows: int, columns: int) -> None:
    """Refuse a size without pixels, or one of more pixels than an image may have that is read."""
    for name, value in (("rows", rows), ("columns", columns)):
        if value < 1:
            raise _broken(step, name, f"{value} is less than 1", "use 1 or more")
    if rows * columns > MAX_FRAME_PIXELS:
        problem = f"{rows}x{columns} are more than {MAX_FRAME_PIXELS} pixels"
        raise _broken(step, "rows", problem, "use fewer rows or columns")


def require_number(step: str, **values: float) -> None:
    """Refuse NaN, infinity, and what is too large for a pixel."""
    for name, value in values.items():
        if not -MOST <= value <= MOST:
            raise _broken(step, name, f"{value} is not between {-MOST:g} and {MOST:g}", "use a finite number")


def require_positive(step: str, **values: float) -> None:
    """Refuse what is not above 0, and what float32 takes for 0 or infinity."""
    for name, value in values.items():
        if not LEAST <= value <= MOST:
            raise _broken(step, name, f"{value} is not between {LEAST:g} and {MOST:g}", "use a number above 0")


def require(holds: bool, step: str, name: str, problem: str, remedy: str) -> None:
    """Refuse a field of a step unless a law ``holds`` that no other step has."""
    if not holds:
        raise _broken(step, name, problem, remedy)


def _broken(step: str, name: str, problem: str, remedy: str) -> GossamerError:
    return GossamerError(ErrorCode.CONFIG, f"{step}.{name}", problem, remedy)
