"""The losses of segmentation against their formulas, written out by hand."""

from __future__ import annotations

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from gossamer.cli.train import TrainArguments
from gossamer.training.losses import LOSSES, Loss

SMOOTH = 1e-5
SHAPE = (2, 3, 5, 7)


def exclusive() -> tuple[np.ndarray, np.ndarray]:
    """Return logits ``(2, 3, 5, 7)`` and class numbers ``(2, 1, 5, 7)``."""
    generator = np.random.default_rng(0)
    return generator.normal(size=SHAPE), generator.integers(0, 3, (2, 1, 5, 7))


def overlapping() -> tuple[np.ndarray, np.ndarray]:
    """Return logits ``(2, 3, 5, 7)`` and one map of 0 and 1 a class."""
    generator = np.random.default_rng(1)
    return generator.normal(size=SHAPE), (generator.random(SHAPE) < 0.3).astype(np.int64)


def probabilities(logits: np.ndarray, several: bool) -> np.ndarray:
    if several:
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def truth(targets: np.ndarray, several: bool) -> np.ndarray:
    return targets if several else (targets == np.arange(3)[None, :, None, None]).astype(np.int64)


def cross_entropy(logits: np.ndarray, targets: np.ndarray, several: bool) -> float:
    p, t = probabilities(logits, several), truth(targets, several)
    if several:
        return float(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean())
    return float(-(t * np.log(p)).sum(axis=1).mean())


def dice(logits: np.ndarray, targets: np.ndarray, several: bool, *, squared: bool = False) -> float:
    """One minus the soft Dice of each class, all images as one; squares in the denominator for TransUNet."""
    p, t = probabilities(logits, several), truth(targets, several)
    if not several and not squared:
        p, t = p[:, 1:], t[:, 1:]  # the background is a class of its own only there
    axes, power = (0, 2, 3), 2 if squared else 1
    common, sizes = (p * t).sum(axis=axes), (p**power).sum(axis=axes) + (t**power).sum(axis=axes)
    return float((1 - (2 * common + SMOOTH) / (sizes + SMOOTH)).mean())


def dice_ce(logits: np.ndarray, targets: np.ndarray, several: bool) -> float:
    return cross_entropy(logits, targets, several) + dice(logits, targets, several)


def dice_ce_squared(logits: np.ndarray, targets: np.ndarray, several: bool) -> float:
    return 0.5 * cross_entropy(logits, targets, several) + 0.5 * dice(logits, targets, several, squared=True)


BY_HAND = {"dice_ce": dice_ce, "dice_ce_squared": dice_ce_squared, "cross_entropy": cross_entropy, "dice": dice}
every_loss = pytest.mark.parametrize("name", sorted(LOSSES))
both_kinds = pytest.mark.parametrize("several", [False, True])


def value(loss: Loss, logits: np.ndarray, targets: np.ndarray, several: bool) -> float:
    # As training has them: numbers of classes, or true and false.
    given = torch.from_numpy(targets.astype(bool) if several else targets)
    return float(loss(torch.from_numpy(logits), given, several))


def certain(targets: np.ndarray, several: bool) -> np.ndarray:
    """Logits of a network that knows the truth."""
    return np.where(truth(targets, several), 30.0, -30.0)


def test_command_line_names_every_loss() -> None:
    assert set(LOSSES) == set(BY_HAND)
    option = get_type_hints(TrainArguments)["loss"]
    assert {name for part in get_args(option) for name in get_args(part)} == set(LOSSES)


@every_loss
@both_kinds
def test_the_formula(name: str, several: bool) -> None:
    logits, targets = overlapping() if several else exclusive()
    assert value(LOSSES[name], logits, targets, several) == pytest.approx(
        BY_HAND[name](logits, targets, several), rel=1e-6
    )
    small = value(LOSSES[name], logits.astype(np.float32), targets, several)
    assert small == pytest.approx(BY_HAND[name](logits, targets, several), rel=1e-4)


@every_loss
@both_kinds
def test_perfect_predictions_have_no_loss(name: str, several: bool) -> None:
    _, targets = overlapping() if several else exclusive()
    right = certain(targets, several)
    assert value(LOSSES[name], right, targets, several) == pytest.approx(0, abs=1e-5)
    assert value(LOSSES[name], -right, targets, several) > 0.6
    absent = np.zeros_like(targets)  # nothing to find and nothing found
    assert value(LOSSES[name], certain(absent, several), absent, several) == pytest.approx(0, abs=1e-5)


@every_loss
@both_kinds
def test_a_step_along_the_gradient_costs_less(name: str, several: bool) -> None:
    logits, targets = (torch.from_numpy(part) for part in (overlapping() if several else exclusive()))
    logits.requires_grad_()
    before = LOSSES[name](logits, targets, several)
    (gradient,) = torch.autograd.grad(before, logits)
    assert torch.isfinite(gradient).all()
    assert LOSSES[name](logits - gradient / gradient.norm(), targets, several) < before


@every_loss
def test_one_class_against_the_background(name: str) -> None:
    """Two logits and a softmax say what one logit and a sigmoid say."""
    generator = np.random.default_rng(2)
    logits, targets = generator.normal(size=(2, 1, 5, 7)), generator.integers(0, 2, (2, 1, 5, 7))
    two = np.concatenate([np.zeros_like(logits), logits], axis=1)
    alone, against = value(LOSSES[name], logits, targets, True), value(LOSSES[name], two, targets, False)
    if name == "dice_ce_squared":  # there the background counts as well
        assert alone != pytest.approx(against)
    else:
        assert alone == pytest.approx(against, rel=1e-6)
