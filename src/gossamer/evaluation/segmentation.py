"""The metrics of masks with intervals over patients, beside those of an empty prediction."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data import Sample, SegmentationDataset, open_dataset
from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import RESAMPLES, Estimate, bootstrap_metrics
from gossamer.evaluation.predictions import groups_of
from gossamer.evaluation.results import EvaluationResults, format_interval
from gossamer.evaluation.segmentation_metrics import MASK_METRICS, TOLERANCE, WHOLE_CASE, case_metrics
from gossamer.files import write_text
from gossamer.inference.decisions import to_csv
from gossamer.inference.segmentation import SegmentationPredictor, measure_sizes
from gossamer.progress import SILENT, Progress
from gossamer.summary import SummaryTable


@dataclass(frozen=True)
class CaseResult:
    """What was found in one case.

    Attributes:
        sample: the case.
        metrics: each metric of ``MASK_METRICS``, one value a class.
        predicted: volume in ml, area in mm2, or pixels, of each predicted class.
        wanted: the same of the truth.
    """

    sample: Sample
    metrics: dict[str, np.ndarray]
    predicted: np.ndarray
    wanted: np.ndarray


@dataclass(frozen=True)
class SegmentationEvaluation:
    """What a split says about a segmentation model.

    Attributes:
        split: name of the split.
        classes: names, in the order of every value.
        cases: each case.
        groups: number of patients, or of cases where patients are unknown.
        metrics: means over classes of the means over cases, with 95 % bootstrap intervals.
        per_class: the same of each class.
        trivial: the metrics of predicting nothing.
        unit: of distances: ``mm``, or ``px`` where pixels have no spacing.
        size_unit: of volumes and areas.
        tolerance: of surface Dice, in ``unit``.
    """

    split: str
    classes: tuple[str, ...]
    cases: tuple[CaseResult, ...]
    groups: int
    metrics: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    trivial: dict[str, float]
    unit: str
    size_unit: str
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as data."""
        return {
            "split": self.split,
            "cases": len(self.cases),
            "groups": self.groups,
            "interval": f"95 % percentile bootstrap over {self.groups} groups, {RESAMPLES} resamples",
            "distance_unit": self.unit,
            "surface_dice_tolerance": self.tolerance,
            "metrics": {name: estimate.to_json() for name, estimate in self.metrics.items()},
            "per_class": {
                name: {metric: estimate.to_json() for metric, estimate in estimates.items() if metric not in WHOLE_CASE}
                for name, estimates in self.per_class.items()
            },
            "trivial": self.trivial,
        }

    def tables(self, source: str) -> tuple[SummaryTable, ...]:
        """Return the metrics as a table, with a column for each class if there are several."""
        classes = self.classes if len(self.classes) > 1 else ()
        rows = []
        for key, label in self.metric_labels().items():
            found = self.metrics[key]
            each = [f"{self.per_class[name][key].value:.3f}" for name in classes] if key not in WHOLE_CASE else []
            each += [""] * (len(classes) - len(each))
            value, trivial = f"{found.value:.3f}", f"{self.trivial[key]:.3f}"
            rows.append((label, value, format_interval(found), *each, trivial))
        title = f"{source}, {self.split} split, {len(self.cases)} cases"
        return (SummaryTable(title, ("metric", "mean", "95 % interval", *classes, "nothing"), tuple(rows)),)

    def metric_labels(self) -> dict[str, str]:
        """Return each metric with its name for people, with the unit of distances."""
        details = {"hd95": f", {self.unit}", "surface_dice": f" at {self.tolerance:g} {self.unit}"}
        return {key: MASK_METRICS[key][0] + details.get(key, "") for key in self.metrics}

    def ranked(self) -> list[int]:
        """Return the numbers of the cases that hold a class, from the lowest mean Dice to the highest."""
        dice = [_mean(case.metrics["dice"]) for case in self.cases]
        return [int(k) for k in np.argsort(dice, kind="stable") if not math.isnan(dice[k])]

    def write_csv(self, path: Path) -> None:
        """Write one row a case and class: id, patient, split, class, metrics, sizes of truth and prediction."""
        sizes = [f"truth_{self.size_unit}", f"predicted_{self.size_unit}"]
        rows = [["id", "patient", "split", "class", *MASK_METRICS, *sizes]]
        for case in self.cases:
            for k, name in enumerate(self.classes):
                values = [case.metrics[metric][k] for metric in MASK_METRICS]
                cells = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
                amounts = [f"{case.wanted[k]:.6g}", f"{case.predicted[k]:.6g}"]
                sample = case.sample
                rows.append([sample.id, sample.patient or "", sample.split, name, *cells, *amounts])
        write_text(path, to_csv(rows))


def evaluate_cases(
    model: SegmentationPredictor,
    dataset: SegmentationDataset,
    samples: Sequence[Sample],
    *,
    split: str,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    resamples: int = RESAMPLES,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_case: Callable[[Image, LabelMap, LabelMap], None] = lambda image, truth, prediction: None,
) -> SegmentationEvaluation:
    """Segment ``samples`` on their own grids and return the metrics.

    Args:
        model: the network with its preprocessing.
        dataset: where the samples come from; its classes are matched by name.
        samples: which ones.
        split: name of the split.
        tolerance: of surface Dice, in mm, or in pixels where there is no spacing.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        on_progress: called with the number of cases done, and their total.
        on_case: called with the image, its truth and its prediction.

    Raises:
        GossamerError: ``E-LABEL`` where the classes are not those of the model.
    """
    if set(dataset.classes) != set(model.classes):
        problem = f"has the classes {', '.join(dataset.classes)}, the model {', '.join(model.classes)}"
        raise GossamerError(ErrorCode.LABEL, dataset.source, problem, "evaluate on data with the model's classes")
    order = [dataset.classes.index(name) for name in model.classes]
    cases: list[CaseResult] = []
    trivial: list[dict[str, np.ndarray]] = []
    spacings, flat = set(), not dataset.volumes
    for number, sample in enumerate(samples, start=1):
        image, labels = dataset.read(sample)
        truth = LabelMap(labels.planes[order], model.classes, labels.overlapping, labels.source)
        prediction = model.predict(image)
        spacings.add(image.spacing_mm is not None)
        cases.append(_case_result(sample, image, truth, prediction, tolerance))
        empty = LabelMap(np.zeros_like(truth.planes), model.classes, truth.overlapping, "nothing")
        trivial.append(case_metrics(empty, truth, image.spacing_mm, tolerance))
        on_case(image, truth, prediction)
        on_progress(number, len(samples))
    groups = groups_of(samples)
    tables = {metric: np.array([case.metrics[metric] for case in cases]) for metric in MASK_METRICS}
    estimates = bootstrap_metrics(
        lambda rows: _means(tables, rows, model.classes), groups, resamples=resamples, seed=seed
    )
    everything = np.arange(len(cases))
    nothing = _means({m: np.array([case[m] for case in trivial]) for m in MASK_METRICS}, everything, model.classes)
    in_mm = spacings == {True}
    return SegmentationEvaluation(
        split=split,
        classes=model.classes,
        cases=tuple(cases),
        groups=len(set(groups)),
        metrics={metric: estimates[metric] for metric in MASK_METRICS},
        per_class={
            name: {metric: estimates[f"{metric} of {name}"] for metric in MASK_METRICS} for name in model.classes
        },
        trivial={metric: nothing[metric] for metric in MASK_METRICS},
        unit="mm" if in_mm else "px",
        size_unit=("mm2" if flat else "ml") if in_mm else "px",
        tolerance=tolerance,
    )


def evaluate_data(
    predictor: SegmentationPredictor,
    data: Path,
    *,
    split: str = "test",
    out: Path | None = None,
    tolerance: float | None = None,
    progress: Progress = SILENT,
) -> EvaluationResults:
    """Evaluate a model on a data set with masks.

    Args:
        predictor: Model to evaluate.
        data: Path of the data set.
        split: ``train``, ``val``, ``test``, or ``all`` for every case.
        out: Path of a CSV file for the metrics of each case and class (default: none is written).
        tolerance: Tolerance of surface Dice in mm, or in pixels where images have no spacing (default: 1).
        progress: Receiver of the number of cases done.

    Raises:
        GossamerError: ``E-CONFIG`` for a tolerance that is not positive, ``E-LABEL`` where the classes are not those of
            the model, and what opening and reading the data raise.
    """
    if tolerance is not None and tolerance <= 0:
        raise GossamerError(ErrorCode.CONFIG, "tolerance", f"{tolerance} is not positive", "use 1")
    dataset = open_dataset(data, seed=predictor.seed, task=predictor.task)
    dataset.require_faultless()
    samples = dataset.samples if split == "all" else dataset.split(split)
    with progress.track_steps("segmenting") as update:
        evaluation = evaluate_cases(
            predictor,
            dataset,
            samples,
            split=split,
            tolerance=tolerance or TOLERANCE,
            seed=predictor.seed,
            on_progress=update,
        )
    if out is not None:
        evaluation.write_csv(out)
    return EvaluationResults(evaluation, str(data), predictor.facts, dataset.notes)


def _case_result(sample: Sample, image: Image, truth: LabelMap, prediction: LabelMap, tolerance: float) -> CaseResult:
    metrics = case_metrics(prediction, truth, image.spacing_mm, tolerance)
    return CaseResult(
        sample, metrics, measure_sizes(prediction, image.spacing_mm), measure_sizes(truth, image.spacing_mm)
    )


def _means(tables: dict[str, np.ndarray], rows: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Return the mean of each metric over cases, of each class and over the classes."""
    means: dict[str, float] = {}
    for metric, table in tables.items():
        of_classes = [_mean(table[rows, k]) for k in range(len(classes))]
        means[metric] = _mean(np.array(of_classes))
        means |= {f"{metric} of {name}": value for name, value in zip(classes, of_classes, strict=True)}
    return means


def _mean(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN: the metric says nothing
        return float(np.nanmean(values))
