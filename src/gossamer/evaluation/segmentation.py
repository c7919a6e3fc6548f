"""The metrics of masks with intervals over patients, compared with those of an empty prediction."""

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
    """The metrics of one case.

    Attributes:
        sample: The case.
        metrics: Values of each metric of ``MASK_METRICS``, one for each class.
        predicted: Size of each predicted class: volume in ml, area in mm2, or number of pixels.
        wanted: Size of each class in the truth, in the same unit.
    """

    sample: Sample
    metrics: dict[str, np.ndarray]
    predicted: np.ndarray
    wanted: np.ndarray


@dataclass(frozen=True)
class SegmentationEvaluation:
    """The metrics of a segmentation model on one split.

    Attributes:
        split: Name of the split.
        classes: Class names, in the order of all values.
        cases: Metrics of each case.
        groups: Number of patients, or of cases if patients are unknown.
        metrics: Means over classes of the means over cases, with 95 % bootstrap intervals.
        per_class: Means over cases of each class, with 95 % bootstrap intervals.
        trivial: Metrics of predicting nothing.
        unit: Unit of distances, ``mm``, or ``px`` if pixels have no spacing.
        size_unit: Unit of volumes and areas.
        tolerance: Tolerance of surface Dice, in ``unit``.
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

    def rank_cases(self) -> list[int]:
        """Return the indices of the cases with a defined Dice, from the lowest mean Dice to the highest."""
        dice = [_defined_mean(case.metrics["dice"]) for case in self.cases]
        return [int(k) for k in np.argsort(dice, kind="stable") if not math.isnan(dice[k])]

    def write_csv(self, path: Path) -> None:
        """Write one row for each case and class: id, patient, split, class, metrics, sizes of truth and prediction."""
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
        model: Predictor of the masks.
        dataset: Data set of the samples; its classes are matched by name.
        samples: Cases to segment, at least one.
        split: Name of the split.
        tolerance: Tolerance of surface Dice in mm, or in pixels if there is no spacing (default: 1).
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
        on_progress: Function called with the number of cases done and their total.
        on_case: Function called with the image, its truth and its prediction.

    Raises:
        GossamerError: ``E-LABEL`` if the classes are not those of the model.
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
        lambda rows: _mean_metrics(tables, rows, model.classes), groups, resamples=resamples, seed=seed
    )
    everything = np.arange(len(cases))
    nothing = _mean_metrics(
        {m: np.array([case[m] for case in trivial]) for m in MASK_METRICS}, everything, model.classes
    )
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


def _mean_metrics(tables: dict[str, np.ndarray], rows: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Return the mean of each metric over cases for each class, and the mean of those over the classes."""
    means: dict[str, float] = {}
    for metric, table in tables.items():
        of_classes = [_defined_mean(table[rows, k]) for k in range(len(classes))]
        means[metric] = _defined_mean(np.array(of_classes))
        means |= {f"{metric} of {name}": value for name, value in zip(classes, of_classes, strict=True)}
    return means


def _defined_mean(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN: the metric is undefined
        return float(np.nanmean(values))
