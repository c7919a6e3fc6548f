"""Bytes to ``Image`` and back: one file a format, and one table of them.

Owns file formats, their limits and the tables of text and arrays that layouts read. Does not own the meaning of folders
and names.
"""

from gossamer.data.io.formats import read_image, read_labels, read_picture

__all__ = ["read_image", "read_labels", "read_picture"]
