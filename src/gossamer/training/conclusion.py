"""What the conclusions of all tasks share: a finished run as a value, everything that its report shows."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gossamer import __version__, config
from gossamer.data import SPLITS, Dataset, Sample
from gossamer.errors import ErrorCode, Note
from gossamer.evaluation.bootstrap import Estimate
from gossamer.profiling.figure import Costs, costs_to_json
from gossamer.training.job import FitResult
from gossamer.training.run_folder import RunConfig


class Evaluation(Protocol):
    """The evaluation of a split, whatever the task."""

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Each metric by its name."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as data."""
        ...


class Prepared(Protocol):
    """The prepared samples of a split, whatever the task."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples."""
        ...

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of the stored pixels of each sample."""
        ...

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes on reading the samples."""
        ...


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """A finished run, with everything that its report shows.

    Attributes:
        run: Config of the run.
        dataset: Data that the network was trained on.
        fitted: Course of the training.
        evaluation: Metrics of the evaluated split.
        profile: Cost of the network on this machine.
        machine: Description of this machine.
        notes: Everything that a reader of the report should know.
    """

    run: RunConfig
    dataset: Dataset
    fitted: FitResult
    evaluation: Evaluation
    profile: Costs
    machine: dict[str, Any]
    notes: tuple[Note, ...]

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the summary that is kept in the run folder."""

    def describe_run(self) -> dict[str, Any]:
        """Return the entries of the summary on network and data."""
        return {
            "data": self.run.data,
            "preset": self.run.preset,
            "model": config.to_json(self.run.model),
            "seed": self.run.seed,
            "splits": {split: sum(s.split == split for s in self.dataset.samples) for split in SPLITS},
        }

    def describe_training(self) -> dict[str, Any]:
        """Return the entries of the summary on the course of the training."""
        history = self.fitted.history
        return {
            "epochs": len(history),
            "planned_epochs": self.run.recipe.epochs,
            "best_epoch": int(history[self.fitted.best_epoch]["epoch"]),
            "stopped_early": self.fitted.stopped_early,
            "monitor": self.run.monitor,
            "seconds": sum(row["seconds"] for row in history),
        }

    def describe_result(self) -> dict[str, Any]:
        """Return the entries of the summary on metrics, cost, machine and notes."""
        return {
            **self.evaluation.to_json(),
            "cost": costs_to_json(self.profile),
            "machine": self.machine,
            "notes": [note.to_json() for note in self.notes],
        }

    @property
    def version(self) -> str:
        """Version of Gossamer that concluded the run."""
        return __version__


def choose_split(splits: Mapping[str, Prepared]) -> str:
    """Return the split to evaluate: ``test``, or ``val`` where there is no test split."""
    return "test" if "test" in splits else "val"


def collect_notes(
    run: RunConfig, dataset: Dataset, splits: Mapping[str, Prepared], notes: Sequence[Note], optimism: str
) -> list[Note]:
    """Return the notes of data, planning and reading.

    Args:
        run: Config of the run.
        dataset: Data that the network was trained on.
        splits: Prepared samples of every split.
        notes: Notes of planning.
        optimism: Text of the note that is added where the validation split has to serve as the test split.
    """
    collected = [*dataset.notes, *notes]
    if choose_split(splits) == "val":
        collected.append(Note(ErrorCode.LABEL, run.data, f"there is no test split; {optimism}"))
    collected += [note for part in splits.values() for note in part.notes]
    return collected + note_shared_pixels(run.data, splits.values())


def note_shared_pixels(source: str, parts: Iterable[Prepared]) -> list[Note]:
    """Return a note if images of different splits have equal pixels.

    Args:
        source: Path of the data.
        parts: Prepared samples of every split.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        for sample, fingerprint in zip(part.samples, part.fingerprints, strict=True):
            splits[fingerprint].add(sample.split)
    shared = sum(len(found) > 1 for found in splits.values())
    if not shared:
        return []
    return [Note(ErrorCode.LABEL, source, f"{shared} images occur in several splits; the metrics are too good for it")]
