"""``gossamer export``: a trained run as a bundle that runs without PyTorch."""

from __future__ import annotations

from pathlib import Path

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Common
from gossamer.summary import Result


def export(
    run: Path,
    /,
    *,
    out: Path,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    data: Path | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Result:
    """Write a trained run as a bundle that runs without PyTorch.

    OUT receives model.onnx, manifest.json and README.md, a model card. The bundle is compared with PyTorch on images of
    the validation split, from file to result. If they differ, nothing is written, and the error states the image and
    the stage. Latency and memory are measured on this machine.

    Example: gossamer export runs/chest --out bundles/chest --licence-weights CC-BY-4.0 --licence-data "CC BY 4.0"

    Args:
        run: Folder of a finished run.
        out: Folder of the bundle, new or empty.
        licence_weights: Licence of the weights, for the model card.
        licence_data: Licence of the training data, for the model card.
        data: Current folder of the training data (default: the folder in the config of the run).
        threads: Number of CPU threads (default: all available).
        common: Options of every verb.
    """
    require_training_packages("export")
    from gossamer.api.export import export as export_run

    return export_run(
        run,
        out,
        licence_weights=licence_weights,
        licence_data=licence_data,
        data=data,
        threads=threads,
        progress=True,
    )
