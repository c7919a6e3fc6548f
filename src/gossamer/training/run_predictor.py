"""A trained run as a predictor, computed by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gossamer.checkpoint import load_model
from gossamer.inference.classification import ClassificationPredictor, missing_thresholds_note
from gossamer.inference.decisions import Thresholds
from gossamer.inference.predictor import Network, Predictor
from gossamer.inference.segmentation import NUMBERED_LAYOUT, SegmentationPredictor
from gossamer.task import TaskName
from gossamer.training.run_folder import RunConfig, RunFolder


def wrap_network(module: nn.Module, threads: int | None = None) -> Network:
    """Return a network in evaluation mode as a function of arrays.

    Args:
        module: Network of inputs ``(batch, channels, rows, columns)`` that returns logits ``(batch, classes, ...)``.
        threads: Number of CPU threads of a call (default: as many as PyTorch uses then).
    """
    module.eval()

    def compute_logits(inputs: np.ndarray) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with torch.inference_mode():
                # Images are read-only, and PyTorch warns about memory that it could write to.
                owned = inputs if inputs.flags.writeable else inputs.copy()
                return module(torch.from_numpy(owned)).float().numpy()
        finally:
            torch.set_num_threads(before)

    return compute_logits


def load_run_predictor(path: Path, threads: int | None = None) -> Predictor:
    """Return the predictor of a run with its best weights.

    Args:
        path: Folder of the run.
        threads: Number of CPU threads (default: as many as PyTorch uses when it predicts).

    Raises:
        GossamerError: ``E-MISSING`` if it is not a run folder, and what reading its files raises.
    """
    folder = RunFolder(path)
    run = folder.read_config()
    return make_run_predictor(load_model(path), run, folder.read_thresholds(run), path, threads)


def make_run_predictor(
    network: nn.Module,
    run: RunConfig,
    thresholds: Thresholds | None = None,
    path: Path | None = None,
    threads: int | None = None,
) -> Predictor:
    """Return the predictor of a network that was trained as a run describes.

    Args:
        network: Trained network.
        run: Config of the run.
        thresholds: Thresholds of the labels, of classification (default: none).
        path: Folder of the run, if the predictor should state it.
        threads: Number of CPU threads (default: as many as PyTorch uses when it predicts).
    """
    return _RUN_PREDICTORS[run.task](network, run, thresholds, path, threads)


def classification_predictor(
    network: nn.Module,
    run: RunConfig,
    thresholds: Thresholds | None = None,
    path: Path | None = None,
    threads: int | None = None,
) -> ClassificationPredictor:
    """Return ``make_run_predictor`` of a run that classifies."""
    unset = run.multi_label and thresholds is None
    return ClassificationPredictor(
        network=wrap_network(network, threads),
        preprocessing=run.preprocessing,
        classes=run.classes,
        multi_label=run.multi_label,
        thresholds=thresholds,
        continuous=_is_continuous(network),
        seed=run.seed,
        facts=_facts(path),
        notes=(missing_thresholds_note(str(path), "thresholds.json"),) if unset else (),
    )


def segmentation_predictor(
    network: nn.Module,
    run: RunConfig,
    thresholds: Thresholds | None = None,
    path: Path | None = None,
    threads: int | None = None,
) -> SegmentationPredictor:
    """Return ``make_run_predictor`` of a run that segments."""
    return SegmentationPredictor(
        network=wrap_network(network, threads),
        preprocessing=run.preprocessing,
        windows=run.windows,
        classes=run.classes,
        multi_label=run.multi_label,
        continuous=_is_continuous(network),
        seed=run.seed,
        facts=_facts(path),
        channels=run.model.in_channels // run.windows.stack,
        numbered=run.layout == NUMBERED_LAYOUT,
    )


def _is_continuous(network: nn.Module) -> bool:
    config = getattr(network, "config", None)
    return bool(getattr(config, "continuous", True))


def _facts(path: Path | None) -> Mapping[str, str]:
    return {} if path is None else {"run": str(path)}


_RUN_PREDICTORS: Mapping[
    TaskName, Callable[[nn.Module, RunConfig, Thresholds | None, Path | None, int | None], Predictor]
] = {
    "classify": classification_predictor,
    "segment": segmentation_predictor,
}
