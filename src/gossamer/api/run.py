"""A trained run as a result: its files, its metrics, and its summary for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.api.tasks import task_of
from gossamer.errors import Note
from gossamer.evaluation.bootstrap import Estimate
from gossamer.inference.predictor import Predictor
from gossamer.summary import Result, SummaryTable
from gossamer.training.conclusion import Conclusion, Evaluation
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.run_predictor import load_run_predictor


@dataclass(frozen=True, repr=False)
class Run(Result):
    """A trained, evaluated and reported run.

    Attributes:
        path: Run folder.
        config: Everything that the run depends on.
        conclusion: Everything that the report shows; None in all processes of torchrun but the first.
    """

    path: Path
    config: RunConfig
    conclusion: Conclusion | None

    @property
    def report(self) -> Path:
        """HTML page of the run."""
        return RunFolder(self.path).report

    @property
    def evaluation(self) -> Evaluation:
        """Evaluation of the test split, or of the validation split if there is no test split."""
        assert self.conclusion is not None, "only the first process of torchrun evaluates"
        return self.conclusion.evaluation

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Metrics of the evaluation by name, each with its 95 % interval."""
        return self.evaluation.metrics

    @property
    def notes(self) -> tuple[Note, ...]:
        """Everything that a reader of the metrics should know."""
        return () if self.conclusion is None else self.conclusion.notes

    def load(self) -> Predictor:
        """Return the best weights as a predictor with preprocessing and decisions."""
        return load_run_predictor(self.path)

    def to_dict(self) -> dict[str, Any]:
        """Return the path and the summary of the run, as ``gossamer train --json`` prints them."""
        return {} if self.conclusion is None else {"run": str(self.path), **self.conclusion.to_json()}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the metrics with their intervals, a verdict in words, and the path of the report."""
        if self.conclusion is None:
            return ()
        return task_of(self.config.task).summarize_run(RunFolder(self.path), self.conclusion)
