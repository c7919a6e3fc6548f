"""The tasks as the API sees them: how a run is described, written and summarized."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from gossamer.files import write_json, write_text
from gossamer.report import classification_page, segmentation_page
from gossamer.report.labels import describe_decisions
from gossamer.report.page import PageOrigin
from gossamer.summary import SummaryTable
from gossamer.task import TaskName
from gossamer.training.classification.conclusion import ClassificationConclusion
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.segmentation.conclusion import SegmentationConclusion


class Task(Protocol):
    """A task: what the API does differently for it."""

    def describe_run(self, run: RunConfig) -> str:
        """Return what is trained, in one line."""
        ...

    def write_conclusion(self, folder: RunFolder, conclusion: Any, origin: PageOrigin) -> None:
        """Write the results of a finished run and its page into the run folder."""
        ...

    def summarize_run(self, folder: RunFolder, conclusion: Any) -> tuple[SummaryTable, ...]:
        """Return the tables that show a finished run to people."""
        ...


class ClassificationTask:
    """A label describes a whole image."""

    def describe_run(self, run: RunConfig) -> str:
        """Return preset, mechanism, image size, tokens, stem and seed."""
        model: Any = run.model
        grid = getattr(model, "grid", None)
        tokens = "" if grid is None else f", {'x'.join(str(count) for count in grid)} tokens"
        stem = f", {model.stem} stem" if isinstance(getattr(model, "stem", None), str) else ""
        return f"{run.title}: {'x'.join(map(str, model.image_size))} px{tokens}{stem}, seed {run.seed}"

    def write_conclusion(self, folder: RunFolder, conclusion: ClassificationConclusion, origin: PageOrigin) -> None:
        """Write thresholds, predictions, page and summary."""
        thresholds = conclusion.predictions.thresholds
        if thresholds is not None:
            write_json(folder.thresholds, thresholds.to_json())
        conclusion.predictions.write_csv(folder.predictions)
        write_text(folder.report, classification_page.render_run(conclusion, origin))
        write_json(folder.summary, conclusion.to_json())

    def summarize_run(self, folder: RunFolder, conclusion: ClassificationConclusion) -> tuple[SummaryTable, ...]:
        """Return the metrics, with several labels also those of each label, and a verdict in words."""
        evaluation, run = conclusion.evaluation, conclusion.run
        single = len(run.classes) == 2 and not run.multi_label
        lines = [f"positive class: {run.classes[1]}"] if single else []
        lines += [
            describe_decisions(evaluation),
            classification_page.describe_quality(conclusion),
            f"report: {folder.report}",
        ]
        return add_caption(evaluation.tables(run.data), lines)


class SegmentationTask:
    """A label describes a pixel."""

    def describe_run(self, run: RunConfig) -> str:
        """Return preset, mechanism, window, slices, loss and seed."""
        stack = f" of {run.windows.stack} slices" if run.windows.stack > 1 else ""
        size = "x".join(map(str, run.model.image_size))
        return f"{run.title}: windows of {size} px{stack}, loss {run.recipe.loss}, seed {run.seed}"

    def write_conclusion(self, folder: RunFolder, conclusion: SegmentationConclusion, origin: PageOrigin) -> None:
        """Write metrics of cases, page and summary."""
        conclusion.evaluation.write_csv(folder.cases)
        write_text(folder.report, segmentation_page.render_run(conclusion, origin))
        write_json(folder.summary, conclusion.to_json())

    def summarize_run(self, folder: RunFolder, conclusion: SegmentationConclusion) -> tuple[SummaryTable, ...]:
        """Return the metrics over all classes and of each, and a verdict in words."""
        lines = [segmentation_page.describe_quality(conclusion), f"report: {folder.report}"]
        return add_caption(conclusion.evaluation.tables(conclusion.run.data), lines)


def add_caption(tables: tuple[SummaryTable, ...], lines: list[str]) -> tuple[SummaryTable, ...]:
    """Return the tables with lines below the last one."""
    *first, last = tables
    return (*first, dataclasses.replace(last, caption="\n".join(lines)))


TASKS: dict[TaskName, Task] = {"classify": ClassificationTask(), "segment": SegmentationTask()}


def task_of(name: TaskName) -> Task:
    """Return the task of this name."""
    return TASKS[name]
