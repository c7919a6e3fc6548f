"""Assertions about errors by code, place and values, never by the words of a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gossamer.errors import ErrorCode, GossamerError


@contextmanager
def expect_error(where: str, *shown: object, code: ErrorCode = ErrorCode.CONFIG) -> Iterator[None]:
    """Fail unless a ``GossamerError`` with this code and place is raised.

    Args:
        where: What the error must name: a field, an option or a file.
        shown: Values that its problem or its remedy must contain, such as ``40x64`` and the size to pad to.
        code: Code of the error.
    """
    with pytest.raises(GossamerError) as caught:
        yield
    error = caught.value
    assert (error.code, str(error.where)) == (code, where), str(error)
    for value in shown:
        assert str(value) in f"{error.problem}; {error.remedy}", str(error)
