"""Bytes to ``Image``: one file a format, recognised by content, never by name."""

from gossamer.data.io.raster import RASTER_SUFFIXES, read_image

__all__ = ["RASTER_SUFFIXES", "read_image"]
