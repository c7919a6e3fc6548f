"""A network in 8 bits beside the same in floating point, on the same images: what is lost, and how sure that is."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gossamer import config
from gossamer.data import ClassificationDataset, SegmentationDataset
from gossamer.data.preparation.classification import prepare_split
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import Estimate, bootstrap_metrics
from gossamer.evaluation.classification import class_frequencies, evaluate_predictions
from gossamer.evaluation.classification_metrics import METRICS, classification_metrics
from gossamer.evaluation.predictions import Predictions, groups_of
from gossamer.evaluation.segmentation import evaluate_cases
from gossamer.evaluation.segmentation_metrics import MASK_METRICS, mean_over_classes, overlap_metrics
from gossamer.inference import segmentation
from gossamer.inference.bundle import Bundle
from gossamer.inference.decisions import chosen_classes, compute_probabilities
from gossamer.inference.manifest import MANIFEST
from gossamer.quantization.calibrate import Dataset, draw_windows
from gossamer.quantization.verify import measure_sqnr_db, require_varied_logits
from gossamer.task import TaskName

WINDOWS = 32
"""Windows of images with masks, whose logits are compared."""
OVERLAPS = ("dice", "jaccard", "jaccard_weighted")
NAMES: dict[TaskName, str] = {"classify": "classification", "segment": "segmentation"}


@dataclass(frozen=True, kw_only=True)
class AccuracyLoss:
    """What a split says of a network in 8 bits.

    Attributes:
        split: name of the split.
        metric: what was compared.
        samples: images, or cases.
        groups: patients, or samples where patients are unknown.
        float32: the metric in floating point.
        int8: the metric in 8 bits.
        drop: how much worse 8 bits are, with the 95 % bootstrap interval of the paired difference over patients.
        sqnr_db: of the logits.
        flips: share of the images, or pixels, that are decided otherwise.
    """

    split: str
    metric: str
    samples: int
    groups: int
    float32: float
    int8: float
    drop: Estimate
    sqnr_db: float
    flips: float

    @property
    def interval(self) -> str:
        """That of the drop, in words."""
        if math.isnan(self.drop.low):
            return "no interval: one patient alone" if self.groups < 2 else "no interval"
        return f"{self.drop.low:.4f} to {self.drop.high:.4f}"

    @property
    def worse(self) -> str:
        """How much worse 8 bits are, in words."""
        return f"{words_for_worsening(self.metric)[1]}s by {self.drop.value:.4f} ({self.interval})"

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as data."""
        return config.to_json(self)


class Float32Reference(Protocol):
    """The images of one split with what a network in floating point says of them."""

    def __call__(self, candidate: Bundle) -> AccuracyLoss:
        """Return what is lost by ``candidate``.

        Raises:
            GossamerError: ``E-VALUE`` where it says the same of every image, or what is no number.
        """
        ...


def choose_metric(task: TaskName, wanted: str | None) -> str:
    """Return the metric whose drop is limited: AUROC of classification and Dice of segmentation, if none is wanted.

    Raises:
        GossamerError: ``E-CONFIG`` for one that is not of the task.
    """
    known = tuple(METRICS) if task == "classify" else OVERLAPS
    if wanted is None:
        return "auroc" if task == "classify" else "dice"
    if wanted not in known:
        problem = f"{wanted!r} is no metric of {NAMES[task]} that may drop"
        raise GossamerError(ErrorCode.CONFIG, "--metric", problem, f"use one of {', '.join(known)}")
    return wanted


def words_for_worsening(metric: str) -> tuple[str, str]:
    """Return the noun and the verb of a metric that gets worse: it drops only where larger is better."""
    _, larger_is_better = {**METRICS, **MASK_METRICS}[metric]
    return ("drop", "drop") if larger_is_better else ("worsening", "worsen")


def measure_reference(bundle: Bundle, dataset: Dataset, split: str, metric: str, seed: int) -> Float32Reference:
    """Return the judge of a split.

    Args:
        bundle: the network in floating point.
        dataset: that it was trained on.
        split: whose images judge.
        metric: what may drop, see ``choose_metric``.
        seed: of the bootstrap.

    Raises:
        GossamerError: ``E-CONFIG`` for a metric that is not one of the task, ``E-VALUE`` where it is undefined on the
            split, ``E-MISSING`` without the split, or what reading raises.
    """
    metric = choose_metric(bundle.manifest.task, metric)
    if isinstance(dataset, ClassificationDataset):
        return ClassificationReference(bundle, dataset, split, metric, seed)
    return SegmentationReference(bundle, dataset, split, metric, seed)


class ClassificationReference:
    """The judge of classification. Images are seen one at a time, as ``gossamer predict`` sees them."""

    def __init__(self, bundle: Bundle, dataset: ClassificationDataset, split: str, metric: str, seed: int) -> None:
        self.split, self.metric, self.seed = split, metric, seed
        self.output = bundle.manifest.output
        where = bundle.path / MANIFEST
        self.cuts = bundle.manifest.read_thresholds(where)
        preprocessing = bundle.manifest.read_preprocessing(where)
        self.prepared = prepare_split(dataset, dataset.split(split), preprocessing, self.output.classes)
        self.logits = compute_logits(bundle, self.prepared.images)
        self.probabilities = compute_probabilities(self.logits, multi_label=self.output.multi_label)
        _require_defined(self._measure(self.probabilities, np.arange(len(self.logits))), metric, dataset, split)

    def __call__(self, candidate: Bundle) -> AccuracyLoss:
        """Return what is lost by ``candidate``."""
        logits = compute_logits(candidate, self.prepared.images)
        require_varied_logits(self.logits, logits)
        probabilities = compute_probabilities(logits, multi_label=self.output.multi_label)
        chosen = [
            chosen_classes(values, multi_label=self.output.multi_label, thresholds=self.cuts)
            for values in (self.probabilities, probabilities)
        ]
        groups = groups_of(self.prepared.samples)
        float32, int8, drop = measure_paired_drop(
            lambda rows: (self._measure(self.probabilities, rows), self._measure(probabilities, rows)),
            groups,
            larger_is_better=METRICS[self.metric][1],
            seed=self.seed,
        )
        return AccuracyLoss(
            split=self.split,
            metric=self.metric,
            samples=len(groups),
            groups=len(set(groups)),
            float32=float32,
            int8=int8,
            drop=drop,
            sqnr_db=measure_sqnr_db(self.logits, logits),
            flips=float((chosen[0] != chosen[1]).any(axis=1).mean()),
        )

    def _measure(self, probabilities: np.ndarray, rows: np.ndarray) -> float:
        multi_label = self.output.multi_label
        cuts = self.cuts.array() if multi_label and self.cuts is not None else None
        found = classification_metrics(
            probabilities[rows], self.prepared.targets[rows], multi_label=multi_label, thresholds=cuts
        )
        return found[self.metric]


class SegmentationReference:
    """The judge of segmentation: whole cases on their own grids, through windows."""

    def __init__(self, bundle: Bundle, dataset: SegmentationDataset, split: str, metric: str, seed: int) -> None:
        self.dataset, self.split, self.metric, self.seed = dataset, split, metric, seed
        self.samples = dataset.split(split)
        self.windows, _ = draw_windows(bundle, dataset, split, WINDOWS, seed)
        self.logits = compute_logits(bundle, self.windows)
        self.order = [dataset.classes.index(name) for name in bundle.manifest.output.classes]
        # Masks of large cases are mostly empty, and take a hundredth of their size.
        self.masks: list[bytes] = []
        tables: list[np.ndarray] = []
        for _, planes, overlap in self._cases(bundle):
            self.masks.append(zlib.compress(np.packbits(planes).tobytes(), 1))
            tables.append(overlap)
        self.table = np.stack(tables)
        _require_defined(mean_over_classes(self.table), metric, dataset, split)

    def __call__(self, candidate: Bundle) -> AccuracyLoss:
        """Return what is lost by ``candidate``."""
        logits = compute_logits(candidate, self.windows)
        require_varied_logits(self.logits, logits)
        tables, changed, pixels = [], 0, 0
        for number, planes, overlap in self._cases(candidate):
            before = np.frombuffer(zlib.decompress(self.masks[number]), np.uint8)
            differ = (np.unpackbits(before, count=planes.size).reshape(planes.shape) != planes).any(axis=0)
            changed, pixels = changed + int(differ.sum()), pixels + differ.size
            tables.append(overlap)
        table, groups = np.stack(tables), groups_of(self.samples)
        float32, int8, drop = measure_paired_drop(
            lambda rows: (mean_over_classes(self.table[rows]), mean_over_classes(table[rows])),
            groups,
            larger_is_better=MASK_METRICS[self.metric][1],
            seed=self.seed,
        )
        return AccuracyLoss(
            split=self.split,
            metric=self.metric,
            samples=len(groups),
            groups=len(set(groups)),
            float32=float32,
            int8=int8,
            drop=drop,
            sqnr_db=measure_sqnr_db(self.logits, logits),
            flips=changed / pixels,
        )

    def _cases(self, bundle: Bundle) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield the number, the predicted planes and the overlap of each class of every case."""
        model = segmentation.bundle_predictor(bundle)
        for number, sample in enumerate(self.samples):
            image, labels = self.dataset.read(sample)
            truth, planes = labels.planes[self.order], model.predict(image).planes
            axes = tuple(range(1, planes.ndim))
            counts = (planes & truth).sum(axes), planes.sum(axes), truth.sum(axes)
            yield number, planes, overlap_metrics(*counts)[self.metric]


def measure_paired_drop(
    measure: Callable[[np.ndarray], tuple[float, float]], groups: list[str], *, larger_is_better: bool, seed: int
) -> tuple[float, float, Estimate]:
    """Return a metric in floating point, in 8 bits, and how much worse it is, with its interval over patients.

    Args:
        measure: the metric of both, of the same rows.
        groups: the patient of each row.
        larger_is_better: of the metric.
        seed: of the bootstrap.
    """
    float32, int8 = measure(np.arange(len(groups)))

    def drop(rows: np.ndarray) -> dict[str, float]:
        before, after = measure(rows)
        return {"drop": before - after if larger_is_better else after - before}

    return float32, int8, bootstrap_metrics(drop, groups, seed=seed)["drop"]


def measure_quality(bundle: Bundle, dataset: Dataset, split: str, seed: int) -> dict[str, Any]:
    """Return every metric of a split with its interval and that of the trivial answer, as a manifest has them."""
    output, where = bundle.manifest.output, bundle.path / MANIFEST
    if isinstance(dataset, ClassificationDataset):
        preprocessing = bundle.manifest.read_preprocessing(where)
        prepared = prepare_split(dataset, dataset.split(split), preprocessing, output.classes)
        probabilities = compute_probabilities(compute_logits(bundle, prepared.images), multi_label=output.multi_label)
        thresholds = bundle.manifest.read_thresholds(where)
        said = Predictions(
            prepared.samples, output.classes, output.multi_label, probabilities, prepared.targets, thresholds
        )
        prior = class_frequencies(dataset, output.classes, split)
        found = evaluate_predictions(said, prior, split=split, seed=seed)
    else:
        predictor = segmentation.bundle_predictor(bundle)
        found = evaluate_cases(predictor, dataset, dataset.split(split), split=split, seed=seed)
    return {name: {**value.to_json(), "trivial": found.trivial.get(name)} for name, value in found.metrics.items()}


def compute_logits(bundle: Bundle, windows: np.ndarray) -> np.ndarray:
    """Return the logits of windows that a network sees one at a time."""
    return np.concatenate([bundle.compute_logits(windows[index : index + 1]) for index in range(len(windows))])


def replace_model(bundle: Bundle, model: bytes) -> Bundle:
    """Return the bundle with another graph, in ONNX Runtime with the same threads."""
    from gossamer.inference.engines import load_engine

    engine = load_engine("onnxruntime", model, bundle.path, bundle.threads)
    return dataclasses.replace(bundle, engine=engine)


def _require_defined(value: float, metric: str, dataset: Dataset, split: str) -> None:
    if math.isnan(value):
        problem = f"{metric} is undefined on the {split} split"
        raise GossamerError(ErrorCode.VALUE, dataset.source, problem, "give another --metric")
