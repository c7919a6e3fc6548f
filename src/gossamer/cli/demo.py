"""``gossamer demo``: every step on drawn images."""

from __future__ import annotations

from pathlib import Path

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Common
from gossamer.summary import Result


def demo(
    *,
    out: Path = Path("demo"),
    count: int = 440,
    epochs: int = 6,
    cases: int = 16,
    mask_epochs: int = 7,
    threads: int | None = None,
    common: Common = Common(),
) -> Result:
    """Train, export, quantize and use a classifier and a segmenter on drawn images.

    Draws chest radiographs and slices of the abdomen, trains a small Vision Transformer with sequence normalization and
    a small TransUNet with key-value attention, exports and quantizes both, predicts with the bundles, and writes one
    page that leads through all steps.

    Example: gossamer demo --out demo

    Args:
        out: Folder to write; the results of an earlier demo in it are replaced.
        count: Number of radiographs, at least 220.
        epochs: Number of epochs of the classifier.
        cases: Number of patients with 24 slices of the abdomen each, at least 9.
        mask_epochs: Number of epochs of the segmenter.
        threads: Number of CPU threads (default: all available).
        common: Options of every verb.
    """
    require_training_packages("demo")
    from gossamer.api.demo import run_demo

    return run_demo(
        out,
        count=count,
        epochs=epochs,
        cases=cases,
        mask_epochs=mask_epochs,
        threads=threads,
        progress=True,
    )
