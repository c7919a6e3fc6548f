"""The channels of one image in several files, ``<case>_0000``, ``<case>_0001``, ..., as nnU-Net names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import read_image
from gossamer.data.io.formats import split_suffix
from gossamer.errors import ErrorCode, GossamerError

_NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def numbered_channel(name: str) -> tuple[str, int] | None:
    """Return the file name of the case and the channel number of ``<case>_0000.nii.gz``; None for other names."""
    stem, suffix = split_suffix(name)
    found = _NUMBERED.fullmatch(stem) if suffix else None
    return None if found is None else (found["case"] + suffix, int(found["channel"]))


def read_channels(files: Sequence[Path], count: int, reason: str) -> Image:
    """Read an image of ``count`` channels from as many files, or from one.

    Args:
        files: Files in the order of the channels.
        count: Number of channels.
        reason: Sentence that says why it is this number, for the message.

    Raises:
        GossamerError: ``E-GEOMETRY`` for grids that differ or another number of channels, and the errors of
            ``read_image``.
    """
    in_one_file = len(files) == 1 and count > 1
    images = [read_image(file, channels=in_one_file) for file in files]
    image = images[0]
    for file, other in zip(files[1:], images[1:], strict=True):
        apart = image.grid_difference(other)
        if apart:
            problem = f"the channel is not on the grid of {files[0].name}: {apart}"
            raise GossamerError(ErrorCode.GEOMETRY, file, problem, "export all channels on one grid")
    if len(images) > 1:
        planes = [each.array if "channels" in each.axes else each.array[..., None] for each in images]
        notes = tuple(note for each in images for note in each.notes)
        image = replace(image.with_array(np.concatenate(planes, axis=-1)), notes=notes)
    if image.channels != count:
        problem = f"has {image.channels} channels, {reason}"
        raise GossamerError(ErrorCode.GEOMETRY, files[0], problem, "use an image with that many channels")
    return image
