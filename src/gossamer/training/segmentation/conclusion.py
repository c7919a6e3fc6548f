"""The end of a segmentation run: evaluation of the best weights on whole cases, cost, and cases to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gossamer.checkpoint import load_model
from gossamer.data import SegmentationDataset
from gossamer.data.preparation.segmentation import PreparedCases
from gossamer.errors import Note
from gossamer.evaluation.example_slice import ExampleSlice, choose_example_slice
from gossamer.evaluation.segmentation import SegmentationEvaluation, evaluate_cases
from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow
from gossamer.nn.models import Network
from gossamer.profiling.figure import Costs, Figure
from gossamer.profiling.machine import describe_machine
from gossamer.profiling.macs import count_macs
from gossamer.profiling.network import profile_model
from gossamer.progress import SILENT, Progress
from gossamer.training.conclusion import Conclusion, choose_split, collect_notes
from gossamer.training.job import FitResult
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.run_predictor import segmentation_predictor
from gossamer.training.segmentation.items import middle_window

SHOWN_CASES = 3
"""Number of cases that the report shows of the worst, the median and the best."""
_OPTIMISM = "metrics are those of the validation split, which chose the epoch, and are optimistic"


@dataclass(frozen=True)
class ShownCase:
    """A case that the report shows.

    Attributes:
        rank: ``worst``, ``median`` or ``best``.
        id: Name of the case.
        dice: Dice of each class.
        example: Slice where truth and prediction together are largest.
    """

    rank: str
    id: str
    dice: tuple[float, ...]
    example: ExampleSlice


@dataclass(frozen=True, kw_only=True)
class SegmentationConclusion(Conclusion):
    """A finished segmentation run; its profile is that of one window.

    Attributes:
        dataset: Data that the network was trained on.
        evaluation: Metrics of the evaluated split.
        slices: Number of slices of each split.
        shown: Worst, median and best cases.
    """

    dataset: SegmentationDataset
    evaluation: SegmentationEvaluation
    slices: dict[str, int]
    shown: tuple[ShownCase, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the summary that is kept in the run folder."""
        run = self.describe_run()
        splits = run.pop("splits")
        return {
            "gossamer": self.version,
            "task": self.run.task,
            **run,
            "classes": self.run.classes,
            "splits": splits,
            "slices": self.slices,
            "training": self.describe_training(),
            **self.describe_result(),
        }


def conclude_run(
    folder: RunFolder,
    run: RunConfig,
    dataset: SegmentationDataset,
    fitted: FitResult,
    splits: Mapping[str, PreparedCases],
    notes: Sequence[Note],
    progress: Progress = SILENT,
) -> SegmentationConclusion:
    """Evaluate the best weights of ``folder`` on whole cases, measure their cost and choose cases to show.

    The test split is evaluated; without one the validation split is, with a note, since it has chosen the epoch.

    Args:
        folder: Run folder with the best weights.
        run: Config of the run.
        dataset: Data that the network was trained on.
        fitted: Course of the training.
        splits: Prepared cases of every split of the data.
        notes: Notes of planning.
        progress: Receiver of the progress.
    """
    split, collected = choose_split(splits), collect_notes(run, dataset, splits, notes, _OPTIMISM)
    network = load_model(folder.path)
    model = segmentation_predictor(network, run)
    with progress.track_steps("evaluating") as update:
        evaluation = evaluate_cases(
            model, dataset, dataset.split(split), split=split, seed=run.seed, on_progress=update
        )
    return SegmentationConclusion(
        run=run,
        dataset=dataset,
        slices={name: sum(len(case.slices) for case in part.cases) for name, part in splits.items()},
        fitted=fitted,
        evaluation=evaluation,
        shown=tuple(_choose_shown(model, dataset, evaluation)),
        profile=_profile_window(network, model.windows, splits[split]),
        machine=describe_machine(),
        notes=tuple(collected),
    )


def _profile_window(network: Network, inference: SlidingWindow, prepared: PreparedCases) -> Costs:
    """Return the cost of a window, timed on a real one, since pruning makes the work depend on the image."""
    middles = [middle_window(case.slices, len(case.slices) // 2, inference) for case in prepared.cases]
    images = torch.from_numpy(np.stack(middles))
    profile = profile_model(network, images=images[len(images) // 2 :][:1])
    pruned = network.pruned_fraction(images)
    if pruned is not None:
        how = f"mean of the middle windows of {len(images)} cases; least {pruned.min():.2f}, most {pruned.max():.2f}"
        profile["pruned_queries"] = Figure(float(pruned.mean()), "", "measured", how)
        executed = sum(count_macs(network, image).total for image in images.split(1)) / len(images)
        profile["macs_executed"] = Figure(
            executed, "MACs", "computed", f"operators, mean of the same {len(images)} windows"
        )
    return profile


def _choose_shown(
    model: SegmentationPredictor, dataset: SegmentationDataset, evaluation: SegmentationEvaluation
) -> list[ShownCase]:
    """Return the worst, median and best cases, each once."""
    ranked = evaluation.rank_cases()
    count = max(1, min(SHOWN_CASES, len(ranked) // 3))
    middle = max(0, (len(ranked) - count) // 2)
    chosen = {"worst": ranked[:count], "median": ranked[middle : middle + count], "best": ranked[-count:][::-1]}
    shown: list[ShownCase] = []
    seen: set[int] = set()
    for rank, numbers in chosen.items():
        for number in numbers:
            if number not in seen:
                seen.add(number)
                result = evaluation.cases[number]
                image, labels = dataset.read(result.sample)
                order = [dataset.classes.index(name) for name in model.classes]
                truth = type(labels)(labels.planes[order], model.classes, labels.overlapping, labels.source)
                dice = tuple(float(value) for value in np.asarray(result.metrics["dice"]))
                example = choose_example_slice(image, truth, model.predict(image))
                shown.append(ShownCase(rank, result.sample.id, dice, example))
    return shown
