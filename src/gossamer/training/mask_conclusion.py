"""A finished segmentation run as a value, and the writing of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gossamer import __version__, config
from gossamer.checkpoint import load_model
from gossamer.data import SPLITS, SegmentationDataset
from gossamer.data.preparation.segmentation import PreparedCases
from gossamer.errors import ErrorCode, Note
from gossamer.evaluation.example_slice import ExampleSlice, choose_example_slice
from gossamer.evaluation.segmentation import SegmentationEvaluation, evaluate_cases
from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow
from gossamer.nn.models import Network
from gossamer.profiling.figure import Figure
from gossamer.profiling.machine import describe_machine
from gossamer.profiling.macs import count_macs
from gossamer.profiling.network import Costs, profile_model
from gossamer.training.conclude import shared_pixels
from gossamer.training.loop import Fitted
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.run_predictor import segmentation_predictor
from gossamer.training.slices import middle_window

SHOWN = 3
"""Cases that are shown of the worst, the median and the best."""


@dataclass(frozen=True)
class ShownCase:
    """A case in the report: where it stands among the others, its Dice, and a slice of it."""

    rank: str
    id: str
    dice: tuple[float, ...]
    example: ExampleSlice


@dataclass(frozen=True)
class SegmentationConclusion:
    """A finished segmentation run, with everything that its report shows.

    Attributes:
        run: its config.
        dataset: what it was trained on.
        slices: training slices, validation slices.
        fitted: how training went.
        evaluation: metrics of the evaluated split.
        shown: the worst, median and best cases.
        profile: what the network costs here, for one window.
        machine: where that was measured.
        notes: everything a reader should know.
    """

    run: RunConfig
    dataset: SegmentationDataset
    slices: dict[str, int]
    fitted: Fitted
    evaluation: SegmentationEvaluation
    shown: tuple[ShownCase, ...]
    profile: Costs
    machine: dict[str, Any]
    notes: tuple[Note, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the summary that is kept beside the run."""
        history = self.fitted.history
        return {
            "gossamer": __version__,
            "task": self.run.task,
            "data": self.run.data,
            "preset": self.run.preset,
            "model": config.to_json(self.run.model),
            "seed": self.run.seed,
            "classes": self.run.classes,
            "splits": {split: sum(s.split == split for s in self.dataset.samples) for split in SPLITS},
            "slices": self.slices,
            "training": {
                "epochs": len(history),
                "planned_epochs": self.run.recipe.epochs,
                "best_epoch": int(history[self.fitted.best_epoch]["epoch"]),
                "stopped_early": self.fitted.stopped_early,
                "monitor": self.run.monitor,
                "seconds": sum(row["seconds"] for row in history),
            },
            **self.evaluation.to_json(),
            "cost": {name: figure.to_json() for name, figure in self.profile.items()},
            "machine": self.machine,
            "notes": [note.to_json() for note in self.notes],
        }


def conclude_masks(
    folder: RunFolder,
    run: RunConfig,
    dataset: SegmentationDataset,
    fitted: Fitted,
    splits: Mapping[str, PreparedCases],
    notes: Sequence[Note],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> SegmentationConclusion:
    """Evaluate the best weights of ``folder`` on whole cases, measure them, and choose what to show.

    The test split is evaluated; where there is none, the validation split, with a note, since it has chosen the epoch.

    Args:
        folder: of the run.
        run: its config.
        dataset: what it was trained on.
        fitted: how training went.
        splits: the prepared cases of every split that the data have.
        notes: what was decided on the way.
        on_progress: called with the number of evaluated cases, and their total.
    """
    notes = [*dataset.notes, *notes]
    split = "test" if "test" in splits else "val"
    if split == "val":
        text = "there is no test split; the figures are of the validation split, which chose the epoch: optimistic"
        notes.append(Note(ErrorCode.LABEL, run.data, text))
    notes += [note for part in splits.values() for note in part.notes]
    notes += shared_pixels(run.data, splits.values())
    model = segmentation_predictor(load_model(folder.path), run)
    evaluation = evaluate_cases(
        model, dataset, dataset.split(split), split=split, seed=run.seed, on_progress=on_progress
    )
    return SegmentationConclusion(
        run=run,
        dataset=dataset,
        slices={name: sum(len(case.slices) for case in part.cases) for name, part in splits.items()},
        fitted=fitted,
        evaluation=evaluation,
        shown=tuple(_shown(model, dataset, evaluation)),
        profile=_profile(load_model(folder.path), model.windows, splits[split]),
        machine=describe_machine(),
        notes=tuple(notes),
    )


def _profile(network: Network, inference: SlidingWindow, prepared: PreparedCases) -> Costs:
    """Return what a window costs, timed on a real one, since pruning makes the work depend on the image."""
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


def _shown(
    model: SegmentationPredictor, dataset: SegmentationDataset, evaluation: SegmentationEvaluation
) -> list[ShownCase]:
    """Return the worst, median and best cases, each once."""
    ranked = evaluation.ranked()
    count = max(1, min(SHOWN, len(ranked) // 3))
    middle = max(0, (len(ranked) - count) // 2)
    wanted = {"worst": ranked[:count], "median": ranked[middle : middle + count], "best": ranked[-count:][::-1]}
    shown: list[ShownCase] = []
    seen: set[int] = set()
    for rank, numbers in wanted.items():
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
