"""Gzip read to its very end: every member, padding between them, checksums, and a limit on what comes out."""

from __future__ import annotations

import gzip
import zlib

import pytest

from gossamer.data.io.gunzip import gunzip_head, inflate_gzip
from gossamer.errors import GossamerError


def test_gzip_members_padding_and_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b"one") + bytes(5) + gzip.compress(b"two" * 300_000) + bytes(900)
    assert inflate_gzip(data, "x") == (b"one" + b"two" * 300_000, 900_003)
    assert inflate_gzip(data, "x", keep=5) == (b"onetw", 900_003)
    with pytest.raises(GossamerError, match="E-INTEGRITY"):
        inflate_gzip(data + b"rest", "x")
    stream = zlib.compressobj(wbits=31)
    endless = stream.compress(bytes(5_000_000)) + stream.flush()
    monkeypatch.setattr("gossamer.data.io.limits.MAX_INFLATED_BYTES", 4_000_000)
    with pytest.raises(GossamerError, match="E-LIMIT"):
        inflate_gzip(endless, "x", keep=0)
    assert gunzip_head(endless, 9) == bytes(9)
