"""``gossamer train``: from a folder of labelled images to a trained, evaluated, reported model."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Common, print_message
from gossamer.summary import Result
from gossamer.training.options import TrainOptions


@Parameter(name="*")
@dataclass(frozen=True)
class TrainArguments(TrainOptions):
    """Options of training as they are typed; the help texts are those of the options in Python."""

    attention: str | None = None
    image_size: str | None = None
    seed: int | None = None  # type: ignore[assignment]

    def typed_options(self) -> dict[str, Any]:
        """Return the options that were typed."""
        return self.given(*(field.name for field in dataclasses.fields(self)))


TrainArguments.__doc__ = TrainOptions.__doc__


def train(
    data: Path | None = None,
    /,
    *,
    out: Path | None = None,
    config: Path | None = None,
    resume: Path | None = None,
    threads: int | None = None,
    options: TrainArguments = TrainArguments(),
    common: Common = Common(),
) -> Result:
    """Train a network on labelled images, evaluate it and write a report.

    DATA holds images with classes (a MedMNIST npz, class folders, a CSV manifest), or images with masks (paired
    folders, a Medical Segmentation Decathlon or nnU-Net folder, run lengths, ...). All results are written to one run
    folder.

    Example: gossamer train chest/ --model vit_tiny --attention sequence_norm --out runs/chest

    Example: gossamer train Task04_Hippocampus/ --task segment --model transunet_small --out runs/hippocampus

    Args:
        data: Labelled images.
        out: Run folder, which must not exist (default: runs/<data>-<model>-<attention>-<seed>).
        config: File config.yaml of another run, or its folder, whose network, recipe and seed are taken; options
            replace single values (default: everything is chosen from the data).
        resume: Folder of a stopped run to finish, with its own data and options.
        threads: Number of CPU threads (default: all available, or as many as the resumed run had).
        options: Options of training.
        common: Options of every verb.
    """
    require_training_packages("train")
    from gossamer.api import train as api

    try:
        return api.train(
            data, out=out, config=config, resume=resume, threads=threads, progress=True, **options.typed_options()
        )
    except api.TrainingInterrupted as stop:
        print_message(f"gossamer: {stop}")
        sys.exit(128 + stop.signal_number)
