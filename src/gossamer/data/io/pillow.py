"""The one door to Pillow: its settings checked, its many exceptions made one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image as PillowImage
from PIL import ImageFile, UnidentifiedImageError

from gossamer.data.io.limits import MAX_FRAME_PIXELS, check_frame
from gossamer.errors import ErrorCode, GossamerError


@contextmanager
def open_picture(data: bytes, kind: str, where: str) -> Iterator[PillowImage.Image]:
    """Yield the picture in ``data``, which must be of the format ``kind``, with its size checked.

    Raises:
        GossamerError: ``E-LIMIT`` for a size above the limit, ``E-TRUNCATED`` where the data end early, ``E-SYNTAX``
            for everything else that Pillow refuses.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        problem = "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, with which a cut file looks whole"
        raise GossamerError(ErrorCode.CONFIG, where, problem, "set it to False")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            picture = PillowImage.open(io.BytesIO(data), formats=[kind])
        with picture:
            check_frame(where, (picture.height, picture.width))
            yield picture
    except GossamerError:
        raise
    except PillowImage.DecompressionBombError as error:
        problem = f"claims more than the {MAX_FRAME_PIXELS} pixels that are read"
        raise GossamerError(ErrorCode.LIMIT, where, problem, "cut the image into tiles") from error
    except UnidentifiedImageError as error:
        raise GossamerError(ErrorCode.SYNTAX, where, f"has no readable {kind} header", "export it again") from error
    except OSError as error:
        raise GossamerError(ErrorCode.TRUNCATED, where, f"{kind} data: {error}", "copy the file again") from error
    except (SyntaxError, ValueError, ArithmeticError, LookupError) as error:
        raise GossamerError(ErrorCode.SYNTAX, where, f"{kind} data: {error}", "export it again") from error
