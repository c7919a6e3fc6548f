"""Accuracy loss of an int8 network against the same network in float32, on the same images, with its uncertainty."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer import config
from gossamer.data import Dataset, Sample
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import Estimate, bootstrap_metrics
from gossamer.evaluation.classification_metrics import METRICS
from gossamer.evaluation.predictions import groups_of
from gossamer.evaluation.segmentation_metrics import MASK_METRICS
from gossamer.inference.bundle import Bundle
from gossamer.inference.engines import load_engine
from gossamer.inference.predictor import Predictor
from gossamer.inference.tasks import bundle_predictor
from gossamer.quantization.verify import measure_sqnr_db, require_varied_logits

MeasurePair = Callable[[np.ndarray], tuple[float, float]]
"""Function of row numbers to the metric of these rows in float32 and in int8."""


@dataclass(frozen=True, kw_only=True)
class AccuracyLoss:
    """Accuracy loss of an int8 network on one split.

    Attributes:
        split: Name of the split.
        metric: Name of the compared metric.
        samples: Number of images or cases.
        groups: Number of patients, or of samples if patients are unknown.
        float32: Metric of the float32 network.
        int8: Metric of the int8 network.
        drop: Degradation of the metric, positive if int8 is worse, with the 95 % bootstrap interval of the paired
            difference over patients.
        sqnr_db: Signal-to-quantization-noise ratio of the logits, in dB.
        flips: Share of images or pixels whose prediction changed, 0 to 1.
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
    def interval_text(self) -> str:
        """The interval of the degradation as text."""
        if math.isnan(self.drop.low):
            return "no interval: only one patient" if self.groups < 2 else "no interval"
        return f"{self.drop.low:.4f} to {self.drop.high:.4f}"

    @property
    def drop_text(self) -> str:
        """The degradation with its interval as text, for instance ``drops by 0.0021 (-0.0010 to 0.0049)``."""
        return f"{degradation_verb(self.metric)}s by {self.drop.value:.4f} ({self.interval_text})"

    @property
    def noise_text(self) -> str:
        """The signal-to-noise ratio and the share of changed predictions as text."""
        return f"signal to noise {self.sqnr_db:.1f} dB, {self.flips:.2%} of predictions changed"

    def to_json(self) -> dict[str, Any]:
        """Return the loss as data."""
        return config.to_json(self)


class Float32Reference(ABC):
    """A float32 network evaluated on one split, against which int8 networks are compared.

    Args:
        metric: Name of the compared metric.
        split: Name of the split.
        samples: Samples of the split.
        inputs: Network inputs whose logits are compared, float32 ``(count, channels, rows, columns)``.
        logits: Logits of the float32 network for these inputs.
        seed: Seed of the bootstrap.
    """

    def __init__(
        self, *, metric: str, split: str, samples: Sequence[Sample], inputs: np.ndarray, logits: np.ndarray, seed: int
    ) -> None:
        self.metric, self.split, self.samples, self.seed = metric, split, samples, seed
        self.inputs, self.logits = inputs, logits

    @abstractmethod
    def evaluate_candidate(self, candidate: Predictor, logits: np.ndarray) -> tuple[MeasurePair, float]:
        """Return how to measure both networks on some rows, and the share of changed predictions.

        Args:
            candidate: Predictor of the int8 network.
            logits: Logits of the int8 network for ``inputs``.
        """

    def measure_loss(self, candidate: Predictor) -> AccuracyLoss:
        """Return the accuracy loss of an int8 network.

        Args:
            candidate: Predictor of the int8 network.

        Raises:
            GossamerError: ``E-VALUE`` if its logits are not finite, or are nearly the same for every image.
        """
        logits = compute_logits(candidate, self.inputs)
        require_varied_logits(self.logits, logits)
        measure, flips = self.evaluate_candidate(candidate, logits)
        groups = groups_of(self.samples)
        larger_is_better = is_larger_better(self.metric)
        float32, int8, drop = measure_paired_drop(measure, groups, larger_is_better=larger_is_better, seed=self.seed)
        return AccuracyLoss(
            split=self.split,
            metric=self.metric,
            samples=len(groups),
            groups=len(set(groups)),
            float32=float32,
            int8=int8,
            drop=drop,
            sqnr_db=measure_sqnr_db(self.logits, logits),
            flips=flips,
        )


def is_larger_better(metric: str) -> bool:
    """Return whether a larger value of a metric is better."""
    return {**METRICS, **MASK_METRICS}[metric][1]


def degradation_noun(metric: str) -> str:
    """Return the noun for a metric that gets worse: only a metric whose larger values are better can drop."""
    return "drop" if is_larger_better(metric) else "worsening"


def degradation_verb(metric: str) -> str:
    """Return the verb for a metric that gets worse."""
    return "drop" if is_larger_better(metric) else "worsen"


def measure_paired_drop(
    measure: MeasurePair, groups: list[str], *, larger_is_better: bool, seed: int
) -> tuple[float, float, Estimate]:
    """Return a metric in float32, in int8, and its degradation with a 95 % bootstrap interval over patients.

    Args:
        measure: Function of row numbers to the metric of both networks.
        groups: Patient of each row.
        larger_is_better: Whether a larger value of the metric is better.
        seed: Seed of the bootstrap.
    """
    float32, int8 = measure(np.arange(len(groups)))

    def measure_drop(rows: np.ndarray) -> dict[str, float]:
        before, after = measure(rows)
        return {"drop": before - after if larger_is_better else after - before}

    return float32, int8, bootstrap_metrics(measure_drop, groups, seed=seed)["drop"]


def compute_logits(predictor: Predictor, inputs: np.ndarray) -> np.ndarray:
    """Return the logits of network inputs, computed one at a time as ``gossamer predict`` does."""
    return np.concatenate([predictor.network(inputs[index : index + 1]) for index in range(len(inputs))])


def replace_model(bundle: Bundle, model: bytes) -> Predictor:
    """Return the predictor of a bundle with another graph, computed by ONNX Runtime with the same number of threads.

    Args:
        bundle: Bundle of the float32 network.
        model: Content of an ONNX file.
    """
    engine = load_engine("onnxruntime", model, bundle.path, bundle.threads)
    return bundle_predictor(dataclasses.replace(bundle, engine=engine))


def require_defined(value: float, metric: str, dataset: Dataset, split: str) -> None:
    """Raise if a metric is undefined (NaN) on a split, for instance because a class is absent.

    Raises:
        GossamerError: ``E-VALUE``.
    """
    if math.isnan(value):
        problem = f"{metric} is undefined on the {split} split"
        raise GossamerError(ErrorCode.VALUE, dataset.source, problem, "choose another metric")
