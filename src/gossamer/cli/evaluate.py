"""``gossamer evaluate``: a trained run, or a bundle, on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gossamer.cli.output import Common
from gossamer.summary import Result


def evaluate(
    run: Path,
    data: Path,
    /,
    *,
    split: str = "test",
    out: Path | None = None,
    tolerance: float | None = None,
    engine: Literal["onnxruntime", "openvino"] | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Result:
    """Evaluate a trained run or a bundle on labelled images.

    A bundle needs no PyTorch. Labels are matched to the model's classes by name, and several labels are decided by the
    thresholds that the run chose on its own validation split. The trivial classifier knows the class frequencies of
    the data's training split, or of the evaluated one where there is none.

    Example: gossamer evaluate runs/chest other-hospital/ --split test

    Args:
        run: Folder of a run or a bundle.
        data: Labelled images in a layout that gossamer train takes, with classes or masks as the model was trained on.
        split: Split to evaluate: train, val or test, or all for every image.
        out: CSV file for the prediction of each image, or the metrics of each case and class.
        tolerance: Tolerance of surface Dice in mm, or in pixels where images have no spacing (default: 1).
        engine: Engine that computes a bundle (default: onnxruntime); openvino needs the extra of that name.
        threads: Number of CPU threads (default: all available).
        common: Options of every verb.
    """
    from gossamer.api.evaluate import evaluate as evaluate_model

    return evaluate_model(
        run, data, split=split, out=out, tolerance=tolerance, engine=engine, threads=threads, progress=True
    )
