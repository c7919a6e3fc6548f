"""A trained run as a result: its files, its metrics, and its summary for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.errors import Note
from gossamer.evaluation.bootstrap import Estimate
from gossamer.evaluation.classification import ClassificationEvaluation
from gossamer.evaluation.segmentation import SegmentationEvaluation
from gossamer.report import classification_page, segmentation_page
from gossamer.report.labels import describe_decisions, sort_by_auroc
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
        if isinstance(self.conclusion, SegmentationConclusion):
            caption = f"{segmentation_page.describe_quality(self.conclusion)}\nreport: {self.report}"
            return (_mask_table(self.conclusion.evaluation, self.config.data, caption),)
        evaluation = self.conclusion.evaluation
        single = len(self.config.classes) == 2 and not self.config.multi_label
        lines = [f"positive class: {self.config.classes[1]}"] if single else []
        caption = "\n".join(
            [
                *lines,
                describe_decisions(evaluation),
                classification_page.describe_quality(self.conclusion),
                f"report: {self.report}",
            ]
        )
        table = _metrics_table(evaluation, self.config.data, "" if self.config.multi_label else caption)
        return (table, _labels_table(evaluation, caption)) if self.config.multi_label else (table,)


def _mask_table(evaluation: SegmentationEvaluation, source: str, caption: str) -> SummaryTable:
    title = f"{source}, {evaluation.split} split, {len(evaluation.cases)} cases"
    classes = evaluation.classes if len(evaluation.classes) > 1 else ()
    rows = []
    for row in segmentation_page.metric_rows(evaluation):
        estimate = row["estimate"]
        each = [f"{value.value:.3f}" for value in row["classes"]] if classes else []
        each += [""] * (len(classes) - len(each))
        rows.append((row["label"], f"{estimate.value:.3f}", _interval(estimate), *each, f"{row['trivial']:.3f}"))
    return SummaryTable(title, ("metric", "mean", "95 % interval", *classes, "nothing"), tuple(rows), caption)


def _metrics_table(evaluation: ClassificationEvaluation, source: str, caption: str) -> SummaryTable:
    title = f"{source}, {evaluation.split} split, {evaluation.samples} images"
    nothing = [] if evaluation.nothing is None else ["no label"]
    rows = []
    for row in classification_page.metric_rows(evaluation):
        compared = [_decimal(row[key]) for key in ("trivial", *(["nothing"] if nothing else []))]
        rows.append((row["label"], _decimal(row["estimate"].value), _interval(row["estimate"]), *compared))
    headings = ("metric", "value", "95 % interval", "trivial", *nothing)
    return SummaryTable(title, headings, tuple(rows), caption)


def _labels_table(evaluation: ClassificationEvaluation, caption: str) -> SummaryTable:
    headings = ("label", "with it", "AUROC", "95 % interval", "AP", "threshold", "sensitivity", "specificity")
    rows = []
    for label in sort_by_auroc(evaluation.labels):
        m, cut = label.metrics, f"{label.threshold:.3f}" if label.chosen else "0.5 kept"
        decided = [_decimal(m[name].value) for name in ("average_precision", "sensitivity", "specificity")]
        start = (label.name, f"{label.prevalence:.1%}", _decimal(m["auroc"].value), _interval(m["auroc"]))
        rows.append((*start, decided[0], cut, *decided[1:]))
    return SummaryTable("", headings, tuple(rows), caption)


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    return "–" if math.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"
