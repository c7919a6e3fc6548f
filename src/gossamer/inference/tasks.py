"""The two tasks as far as predicting is concerned: one table, looked up by the name that a bundle stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.inference import classification, classification_files, segmentation, segmentation_files
from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.engines import EngineName
from gossamer.inference.predictor import Predictor
from gossamer.task import TaskName


@dataclass(frozen=True)
class PredictionTask:
    """The functions of one task.

    Attributes:
        bundle_predictor: Function that returns the predictor of a bundle.
        find_inputs: Function that returns the inputs among files and folders.
        predict_inputs: Function that predicts such inputs.
        predict_paths: Function that does both, after it has checked the output path.
    """

    bundle_predictor: Callable[[Bundle], Predictor]
    find_inputs: Callable[..., list[Any]]
    predict_inputs: Callable[..., PredictionResults]
    predict_paths: Callable[..., PredictionResults]


PredictionResults = classification_files.ClassificationResults | segmentation_files.SegmentationResults

PREDICTION_TASKS: Mapping[TaskName, PredictionTask] = {
    "classify": PredictionTask(
        classification.bundle_predictor,
        classification_files.find_inputs,
        classification_files.predict_inputs,
        classification_files.predict_paths,
    ),
    "segment": PredictionTask(
        segmentation.bundle_predictor,
        segmentation_files.find_inputs,
        segmentation_files.predict_inputs,
        segmentation_files.predict_paths,
    ),
}


def bundle_predictor(bundle: Bundle) -> Predictor:
    """Return the predictor of an open bundle."""
    return PREDICTION_TASKS[bundle.manifest.task].bundle_predictor(bundle)


def open_predictor(folder: Path | str, *, engine: EngineName = "onnxruntime", threads: int | None = None) -> Predictor:
    """Check a bundle and return its predictor.

    Args:
        folder: Folder of the bundle.
        engine: Name of the engine that computes the network.
        threads: Number of CPU threads (default: chosen by the engine).

    Raises:
        GossamerError: The errors of ``open_bundle``.
    """
    return bundle_predictor(open_bundle(folder, engine=engine, threads=threads))
