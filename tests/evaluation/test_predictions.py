"""Predictions in a table, and the classifier that they are compared with."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np

from gossamer.data import Sample
from gossamer.evaluation.classification import evaluate_predictions
from gossamer.evaluation.predictions import Predictions
from gossamer.inference.decisions import Thresholds


def predictions(*, multi_label: bool) -> Predictions:
    samples = tuple(Sample(f"{i}.png", (), "test", f"p{i // 2}" if i < 4 else None) for i in range(6))
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]], np.float32)
    targets = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0], [1, 0]], np.float32)
    return Predictions(samples, ("a", "b"), multi_label, probabilities, targets)


def test_the_table_has_one_row_for_each_sample(tmp_path: Path) -> None:
    predictions(multi_label=False).write_csv(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "id": "1.png", "patient": "p0", "split": "test", "truth": "b", "prediction": "a", "correct": "false",
        "p(a)": "0.600000", "p(b)": "0.400000",
    }  # fmt: skip
    assert [row["correct"] for row in rows] == ["true", "false", "true", "true", "true", "false"]


def test_the_most_confident_mistake_has_the_largest_loss() -> None:
    found = predictions(multi_label=False)
    assert int(np.argmax(found.loss())) == 5
    np.testing.assert_allclose(found.loss()[0], -np.log(0.9), rtol=1e-5)


def test_groups_are_patients_or_single_samples() -> None:
    result = evaluate_predictions(predictions(multi_label=False), np.array([0.4, 0.6]), split="test", resamples=50)
    assert (result.samples, result.groups) == (6, 4)
    assert result.trivial["auroc"] == 0.5
    assert result.trivial["accuracy"] == 0.5
    data = result.to_json()
    assert set(data["metrics"]["auroc"]) == {"value", "low", "high"}


def test_none_of_the_labels_is_written_as_a_dash(tmp_path: Path) -> None:
    found = predictions(multi_label=True)
    found.probabilities[0] = 0.1
    found.write_csv(tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().splitlines()[1].split(",")[4] == "-"


def test_labels_are_decided_by_their_own_thresholds(tmp_path: Path) -> None:
    cuts = Thresholds(rule="f1", labels=("a", "b"), values=(0.25, 0.75))
    found = dataclasses.replace(predictions(multi_label=True), thresholds=cuts)
    found.write_csv(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open() as file:
        said = [row["prediction"] for row in csv.DictReader(file)]
    assert said == ["a", "a", "a", "b", "a", "b"]
    single = dataclasses.replace(predictions(multi_label=False), thresholds=cuts)
    assert (single.predicted_classes() == predictions(multi_label=False).predicted_classes()).all()


def test_each_label_has_its_prevalence() -> None:
    cuts = Thresholds(rule="f1", labels=("a", "b"), values=(0.25, 0.5), kept=("b",))
    found = dataclasses.replace(predictions(multi_label=True), thresholds=cuts)
    found.targets[:, 1] = 0
    result = evaluate_predictions(found, np.array([0.4, 0.1]), split="test", resamples=50)
    a, b = result.labels
    assert (a.positives, a.prevalence, a.threshold, a.chosen) == (3, 0.5, 0.25, True)
    assert (b.positives, b.prevalence, b.threshold, b.chosen) == (0, 0, 0.5, False)
    assert result.metrics["auroc"].value == a.metrics["auroc"].value
    assert a.metrics["auroc"].low <= a.metrics["auroc"].value <= a.metrics["auroc"].high
    assert math.isnan(b.metrics["auroc"].value)
    assert math.isnan(b.metrics["auroc"].low)
    assert result.nothing is not None
    assert result.nothing["accuracy"] == 0.75
    data = result.to_json()
    assert data["labels"]["a"]["prevalence"] == 0.5
    assert data["thresholds"] == cuts.to_json()


def test_several_classes_are_measured_without_thresholds() -> None:
    samples = tuple(Sample(f"{i}.png", (), "test") for i in range(6))
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 6).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    three = Predictions(samples, ("a", "b", "c"), False, probabilities, targets)
    result = evaluate_predictions(three, np.full(3, 1 / 3), split="test", resamples=10)
    assert [label.name for label in result.labels] == ["a", "b", "c"]
    assert all(set(label.metrics) == {"auroc", "average_precision"} for label in result.labels)
    assert all(label.threshold is None for label in result.labels)
    assert result.nothing is None
    assert result.metrics["auroc"].value == np.mean([label.metrics["auroc"].value for label in result.labels])
