"""A trained run as a result: its files, its metrics, and its summary for people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.errors import Note
from gossamer.evaluation.bootstrap import Estimate
from gossamer.evaluation.classification import ClassificationEvaluation
from gossamer.evaluation.segmentation import SegmentationEvaluation
from gossamer.report import classification_page, segmentation_page
from gossamer.report.labels import describe_decisions
from gossamer.summary import Result, SummaryTable
from gossamer.training.conclusion import ClassificationConclusion
from gossamer.training.mask_conclusion import SegmentationConclusion
from gossamer.training.run_folder import RunConfig, RunFolder


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
    conclusion: ClassificationConclusion | SegmentationConclusion | None

    @property
    def report(self) -> Path:
        """HTML page of the run."""
        return RunFolder(self.path).report

    @property
    def evaluation(self) -> ClassificationEvaluation | SegmentationEvaluation:
        """Evaluation of the test split, or of the validation split where there is no test split."""
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

    def to_dict(self) -> dict[str, Any]:
        """Return the path and the summary of the run, as ``gossamer train --json`` prints them."""
        return {} if self.conclusion is None else {"run": str(self.path), **self.conclusion.to_json()}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the metrics with their intervals, a verdict in words, and the path of the report."""
        if self.conclusion is None:
            return ()
        *first, last = self.conclusion.evaluation.tables(self.config.data)
        return (*first, replace(last, caption="\n".join([*self._remarks(), f"report: {self.report}"])))

    def _remarks(self) -> list[str]:
        """Return what the metrics mean, in words."""
        if isinstance(self.conclusion, SegmentationConclusion):
            return [segmentation_page.describe_quality(self.conclusion)]
        assert self.conclusion is not None
        single = len(self.config.classes) == 2 and not self.config.multi_label
        lines = [f"positive class: {self.config.classes[1]}"] if single else []
        decided = describe_decisions(self.conclusion.evaluation)
        return [*lines, decided, classification_page.describe_quality(self.conclusion)]
