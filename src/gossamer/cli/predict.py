"""``gossamer predict``: images without labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from rich.text import Text

from gossamer.cli.output import Answer, Common, print_input_errors


def predict(
    run: Path,
    /,
    *paths: Path,
    out: Path | None = None,
    rle_order: Literal["rows", "columns"] | None = None,
    strict: bool = False,
    engine: Literal["onnxruntime", "openvino"] | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Predict the classes or the masks of images with a trained run or a bundle.

    A bundle needs no PyTorch. A model of several labels predicts those whose probability is above the threshold that
    the run has chosen for them. Folders are searched for images. An image that cannot be used does not stop the
    others: it is listed in errors.jsonl, in the folder of the CSV file or of the masks, and the command exits with
    status 65. Masks are written in the geometry and format of each image, with the size of each class in sizes.csv; a
    folder of studies in the UW-Madison layout gives one submission.csv of run lengths.

    Example: gossamer predict runs/chest new-images/ --out predictions.csv

    Example: gossamer predict bundles/hippocampus new-volumes/ --out masks/

    Args:
        run: Folder of a run or a bundle.
        paths: Images, or folders of images.
        out: CSV file for classes (default: standard output), or a new or empty folder for masks.
        rle_order: Order in which run lengths of masks count pixels (default: rows).
        strict: Stop at the first image that cannot be used.
        engine: Engine that computes a bundle (default: onnxruntime); openvino needs the extra of that name.
        threads: Number of CPU threads (default: all available).
        common: Options of every verb.
    """
    from gossamer.api.predict import predict as predict_images

    results = predict_images(
        run, paths, out=out, strict=strict, rle_order=rle_order, engine=engine, threads=threads, progress=True
    )
    status = print_input_errors(results.errors)
    if out is not None:
        return Answer(results.to_dict(), Text(repr(results)), status)
    if not common.json:
        sys.stdout.write(results.to_csv())
    return Answer(results.to_dict(), None, status)
