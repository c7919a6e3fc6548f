"""Arguments that both a Python caller and the command line give."""

from __future__ import annotations

from gossamer.errors import ErrorCode, GossamerError


def parse_size(value: str | tuple[int, int] | None, where: str = "image_size") -> tuple[int, int] | None:
    """Return ``(rows, columns)``.

    Args:
        value: Rows x columns such as ``224x224``, one number for a square, or two numbers; None stays None.
        where: Name of the parameter, for the error.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    if value is None:
        return None
    parts = value.lower().split("x") if isinstance(value, str) else [str(side) for side in value]
    if not 1 <= len(parts) <= 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        problem = f"{value!r} is not a size"
        raise GossamerError(ErrorCode.CONFIG, where, problem, "write rows x columns, such as 224x224")
    return int(parts[0]), int(parts[-1])
