"""Intervals: their width is that of theory, and patients are resampled whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer.evaluation.bootstrap import bootstrap_metrics


def test_the_interval_of_a_mean_agrees_with_theory() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    found = bootstrap_metrics(lambda rows: {"mean": float(values[rows].mean())}, [str(i) for i in range(400)])["mean"]
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_equal_images_of_a_patient_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(1).normal(size=40)
    repeated, patients = np.repeat(values, 10), [str(i) for i in np.repeat(np.arange(40), 10)]
    single = bootstrap_metrics(lambda rows: {"mean": float(values[rows].mean())}, [str(i) for i in range(40)])["mean"]
    grouped = bootstrap_metrics(lambda rows: {"mean": float(repeated[rows].mean())}, patients)["mean"]
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.1)


def test_the_seed_decides() -> None:
    values = np.arange(30.0)
    groups = [str(i) for i in range(30)]
    first, again, other = (
        bootstrap_metrics(lambda r: {"m": float(values[r].mean())}, groups, seed=s)["m"] for s in (0, 0, 1)
    )
    assert first == again != other


def test_a_metric_that_is_never_defined() -> None:
    found = bootstrap_metrics(lambda rows: {"m": math.nan}, ["a", "b"], resamples=20)["m"]
    assert math.isnan(found.value)
    assert math.isnan(found.low)
