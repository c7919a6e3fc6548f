"""``gossamer.read_image``: a picture or a volume of any supported format."""

from __future__ import annotations

from pathlib import Path

from gossamer.arguments import checked_arguments
from gossamer.data.image import Image
from gossamer.data.io import formats


@checked_arguments
def read_image(path: Path | str, *, channels: bool = False) -> Image:
    """Read a picture or a volume in any supported format.

    The file is read once. Pictures have axes ``(rows, columns)`` or, with three channels, ``(rows, columns,
    channels)``; volumes ``(slices, rows, columns)``. The type is the file's own, so 16 bits stay 16 bits. Opacity is
    dropped and an orientation tag applied, each with a note. Pictures have no spacing: the resolution that a picture
    file states is that of a print.

    Args:
        path: PNG, JPEG, TIFF or NIfTI file.
        channels: Whether a volume may have a fourth axis, which holds channels (default: False).

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT``, ``E-TRUNCATED``, ``E-INTEGRITY``, ``E-SYNTAX``, ``E-LIMIT``,
            ``E-UNSUPPORTED``, ``E-CODEC``, ``E-GEOMETRY`` or ``E-VALUE``; ``E-CONFIG`` for an argument of a wrong type.
    """
    return formats.read_image(path, channels=channels)
