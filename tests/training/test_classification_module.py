"""The loss of classification, and how it weighs rare labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gossamer.nn.models import model_config
from gossamer.training.classification.module import (
    LARGEST_POSITIVE_WEIGHT,
    ClassificationModule,
    compute_class_weights,
)
from gossamer.training.recipe import Recipe


def module(weights: list[float], *, multi_label: bool) -> ClassificationModule:
    network = model_config(
        "vit_nano", attention="softmax", image_size=(8, 12), patch_size=4, in_channels=1, num_classes=len(weights)
    ).build()
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=1e-3)
    names = ["a", "b", "c", "d", "e"]
    return ClassificationModule(
        network, recipe, weights, multi_label=multi_label, seed=0, sample_ids=names, steps=1
    ).double()


def test_a_positive_weighs_as_many_times_as_there_are_negatives() -> None:
    found = compute_class_weights([10, 150, 100, 0, 1], 200, "balanced", multi_label=True)
    assert found == [19.0, pytest.approx(1 / 3), 1.0, 1.0, LARGEST_POSITIVE_WEIGHT]
    assert found[0] > 1  # a rare finding pulls towards "present"; 1 / count would pull towards "absent"
    for count, weight in zip([10, 150, 100], found, strict=False):
        assert count * weight == pytest.approx(200 - count)  # those with the label weigh as much as those without
    assert compute_class_weights([10, 150], 200, "none", multi_label=True) == [1.0, 1.0]


def test_single_labels_weigh_the_same_in_total() -> None:
    counts = [10, 150, 40]
    found = compute_class_weights(counts, 200, "balanced", multi_label=False)
    assert [count * weight for count, weight in zip(counts, found, strict=True)] == pytest.approx([200 / 3] * 3)


def test_the_multi_label_loss_is_binary_cross_entropy_with_pos_weight() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64)
    targets = (torch.rand(5, 3) < 0.4).double()
    weights = [19.0, 0.25, 3.0]
    found = module(weights, multi_label=True).sample_losses(logits, targets)
    wanted = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=torch.tensor(weights, dtype=torch.float64), reduction="none"
    )
    torch.testing.assert_close(found, wanted.mean(dim=1), rtol=1e-12, atol=0)


def test_the_single_label_loss_is_weighted_cross_entropy() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([2, 0, 1, 1, 2])
    weights = [2.0, 0.5, 1.5]
    found = module(weights, multi_label=False).sample_losses(logits, F.one_hot(labels, 3).double())
    wanted = F.cross_entropy(logits, labels, weight=torch.tensor(weights, dtype=torch.float64), reduction="none")
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
