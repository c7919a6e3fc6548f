"""Probabilities of logits, and what is decided of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from gossamer.inference.decisions import Thresholds, chosen_classes, compute_probabilities, join_names, to_csv


def logits(*shape: int, scale: float = 6.0) -> np.ndarray:
    return (scale * np.random.default_rng(1).normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 7, 11)])
def test_probabilities_equal_those_of_torch(shape: tuple[int, ...], multi_label: bool) -> None:
    values = logits(*shape)
    given = values.copy()
    found = compute_probabilities(values, multi_label=multi_label)
    exact = torch.from_numpy(values).double()
    wanted = (torch.sigmoid(exact) if multi_label else torch.softmax(exact, dim=1)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-7)
    np.testing.assert_array_equal(values, given)


def test_large_logits_neither_overflow_nor_become_nan() -> None:
    values = np.array([[-2e4, 3e4, 2.9e4]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(compute_probabilities(values, multi_label=False), [[0, 1, 0]])
        np.testing.assert_array_equal(compute_probabilities(values, multi_label=True), [[0, 1, 1]])


def test_single_labels_take_the_largest_several_their_thresholds() -> None:
    values = np.array([[0.2, 0.5, 0.3], [0.7, 0.6, 0.1], [0.1, 0.2, 0.0]], dtype=np.float32)
    single = chosen_classes(values, multi_label=False)
    assert join_names(single, "abc") == ["b", "a", "b"]
    assert join_names(chosen_classes(values, multi_label=True), "abc") == ["-", "a|b", "-"]
    thresholds = Thresholds(rule="f1", labels=("a", "b", "c"), values=(0.15, 0.55, 0.0))
    assert join_names(chosen_classes(values, multi_label=True, thresholds=thresholds), "abc") == ["a|c", "a|b|c", "-"]


def test_cells_with_commas_and_quotes_survive_a_table() -> None:
    assert to_csv([["a,b", 'c"d'], ["e", "f"]]) == '"a,b","c""d"\ne,f\n'
