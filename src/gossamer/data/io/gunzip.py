"""Gzip to bytes, to the end of the stream: RFC 1952, whose checksum and length follow the data."""

from __future__ import annotations

import zlib

from gossamer.data.io.limits import MAX_INFLATED_BYTES, check_inflated
from gossamer.errors import ErrorCode, GossamerError

SIGNATURE = b"\x1f\x8b"

_GZIP = 31  # zlib's number for a gzip header, a window of any size, and the trailer checked
_PIECE = 1 << 18


def gunzip_head(data: bytes, count: int) -> bytes:
    """Return the first ``count`` inflated bytes, or fewer if the stream ends; nothing is checked."""
    try:
        return zlib.decompressobj(wbits=_GZIP).decompress(data, count)
    except zlib.error:
        return b""


def inflate_gzip(data: bytes, where: str, keep: int = MAX_INFLATED_BYTES) -> tuple[bytes, int]:
    """Inflate all members of a gzip stream and check their checksums.

    Args:
        data: Stream.
        where: File, for messages.
        keep: Number of bytes to return; the others are only counted (default: all).

    Returns:
        The first inflated bytes, and the number of all inflated bytes.

    Raises:
        GossamerError: ``E-INTEGRITY``, ``E-TRUNCATED``, or ``E-LIMIT`` for more bytes than are read of any file.
    """
    kept, total, engine = bytearray(), 0, None
    try:
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            while piece:
                if engine is None:
                    piece = piece.lstrip(b"\0")  # padding to whole blocks may follow a member
                    engine = zlib.decompressobj(wbits=_GZIP) if piece else None
                    continue
                inflated = engine.decompress(piece, _PIECE)
                total += len(inflated)
                check_inflated(where, total)
                kept += inflated[: keep - len(kept)]
                piece, engine = (engine.unused_data, None) if engine.eof else (engine.unconsumed_tail, engine)
        while engine is not None and (inflated := engine.decompress(b"", _PIECE)):
            total += len(inflated)
            check_inflated(where, total)
            kept += inflated[: keep - len(kept)]
            engine = None if engine.eof else engine
    except zlib.error as error:
        raise GossamerError(ErrorCode.INTEGRITY, where, f"gzip data: {error}", "copy the file again") from error
    if engine is not None or not data:
        problem = f"the gzip stream ends early, after {total} inflated bytes"
        raise GossamerError(ErrorCode.TRUNCATED, where, problem, "copy the file again")
    return bytes(kept), total
