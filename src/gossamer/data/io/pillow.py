"""The only use of Pillow's readers: settings are checked, and its many exceptions become one."""

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
    """Yield the picture in ``data`` of the format ``kind``, with its size checked.

    Raises:
        GossamerError: ``E-LIMIT`` for a size above the limit, ``E-TRUNCATED`` for data that end early, ``E-SYNTAX`` for
            other data that Pillow cannot read.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        problem = "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which hides that a file is cut off"
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
        problem = f"states more pixels than {MAX_FRAME_PIXELS}, the most that are read"
        raise GossamerError(ErrorCode.LIMIT, where, problem, "cut the image into tiles") from error
    except UnidentifiedImageError as error:
        raise GossamerError(ErrorCode.SYNTAX, where, f"has no readable {kind} header", "export it again") from error
    except OSError as error:
        raise GossamerError(ErrorCode.TRUNCATED, where, f"{kind} data: {error}", "copy the file again") from error
    except (SyntaxError, ValueError, ArithmeticError, LookupError) as error:
        raise GossamerError(ErrorCode.SYNTAX, where, f"{kind} data: {error}", "export it again") from error
