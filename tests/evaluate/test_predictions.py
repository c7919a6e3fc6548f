"""Predictions in a table, and the classifier that they are compared with."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from gossamer.data.datasets import Sample
from gossamer.evaluate.evaluate import evaluate_predictions
from gossamer.evaluate.predictions import Predictions


def predictions(*, multi_label: bool) -> Predictions:
    samples = tuple(Sample(f"{i}.png", (), "test", f"p{i // 2}" if i < 4 else None) for i in range(6))
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]], np.float32)
    targets = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0], [1, 0]], np.float32)
    return Predictions(samples, ("a", "b"), multi_label, probabilities, targets)


def test_one_row_a_case(tmp_path: Path) -> None:
    predictions(multi_label=False).write_csv(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "id": "1.png", "patient": "p0", "split": "test", "truth": "b", "prediction": "a", "correct": "false",
        "p(a)": "0.600000", "p(b)": "0.400000",
    }  # fmt: skip
    assert [row["correct"] for row in rows] == ["true", "false", "true", "true", "true", "false"]


def test_the_largest_loss_is_the_surest_mistake() -> None:
    found = predictions(multi_label=False)
    assert int(np.argmax(found.loss())) == 5
    np.testing.assert_allclose(found.loss()[0], -np.log(0.9), rtol=1e-5)


def test_patients_are_the_groups_and_unknown_ones_stand_alone() -> None:
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
