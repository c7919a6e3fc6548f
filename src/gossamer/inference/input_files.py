"""The input files of a prediction: which paths are refused, and how errors are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import write_text

ERRORS = "errors.jsonl"
InputErrors = list[tuple[Path, GossamerError]]
"""Errors of inputs that could not be used, with their paths."""

_DATA_SETS = (".npz", ".csv")


def require_image_path(path: Path) -> None:
    """Raise unless a path exists and is not a data set in one file.

    Raises:
        GossamerError: ``E-MISSING`` or ``E-UNSUPPORTED``.
    """
    if not path.exists():
        raise GossamerError(ErrorCode.MISSING, path, "no such file or folder", "check the path")
    if path.suffix.lower() in _DATA_SETS:
        problem = "is a data set, predict takes images"
        raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, f"use gossamer evaluate MODEL {path}")


def no_images(paths: Sequence[Path], suffixes: Sequence[str]) -> GossamerError:
    """Return the error for paths without any image."""
    where = ", ".join(str(path) for path in paths) or "images"
    return GossamerError(ErrorCode.MISSING, where, "no images", f"name files or folders with {', '.join(suffixes)}")


def none_usable(errors: InputErrors) -> GossamerError:
    """Return the error for inputs that all failed: that of the first, with the number of inputs."""
    error = errors[0][1]
    if len(errors) == 1:
        return error
    problem = f"{error.problem}; none of {len(errors)} inputs can be used"
    return GossamerError(error.code, error.where, problem, error.remedy)


def errors_to_json(errors: InputErrors) -> list[dict[str, str]]:
    """Return the errors as data, with the paths of their inputs."""
    return [{"path": str(path), **error.to_json()} for path, error in errors]


def write_errors(errors: InputErrors, folder: Path) -> None:
    """Write ``errors.jsonl``, one line for each error, if there is any."""
    if errors:
        write_text(folder / ERRORS, "".join(json.dumps(error) + "\n" for error in errors_to_json(errors)))
