"""Losses of segmentation: soft Dice by MONAI, cross-entropy by torch.

``LOSSES`` maps the names of a recipe to functions. A loss takes logits ``(batch, classes, rows, columns)`` and targets
``(batch, maps, rows, columns)``: one map of class numbers, or one map of 0 and 1 for each class if classes overlap.

===================  =================================================================================================
``dice_ce``          cross-entropy and soft Dice of the foreground over the batch (APFormer, arXiv 2206.14413; with
                     sigmoids, ours for arXiv 2503.18862)
``dice_ce_squared``  half of each; squares in the denominator, background included (TransUNet, arXiv 2102.04306)
``cross_entropy``    alone (SETR, arXiv 2012.15840)
``dice``             soft Dice of the foreground alone (the stand-alone self-attention segmenter, arXiv 2209.15287)
===================  =================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from monai.losses.dice import DiceLoss
from torch import Tensor

Loss = Callable[[Tensor, Tensor, bool], Tensor]
"""Logits, targets, whether classes overlap."""


def cross_entropy(logits: Tensor, targets: Tensor, overlapping: bool) -> Tensor:
    """Return the mean cross-entropy of all pixels; binary, of each class, where classes overlap."""
    if overlapping:
        return F.binary_cross_entropy_with_logits(logits, targets.float())
    return F.cross_entropy(logits, targets[:, 0].long())


def soft_dice(logits: Tensor, targets: Tensor, overlapping: bool) -> Tensor:
    """Return one minus the soft Dice of each foreground class over the whole batch, averaged."""
    measure = DiceLoss(
        include_background=overlapping,
        to_onehot_y=not overlapping,
        sigmoid=overlapping,
        softmax=not overlapping,
        batch=True,
    )
    return measure(logits, targets)


def dice_ce(logits: Tensor, targets: Tensor, overlapping: bool) -> Tensor:
    """Return the sum of cross-entropy and Dice loss."""
    return cross_entropy(logits, targets, overlapping) + soft_dice(logits, targets, overlapping)


def dice_ce_squared(logits: Tensor, targets: Tensor, overlapping: bool) -> Tensor:
    """Return half of cross-entropy and half of a Dice loss with squares in its denominator, background included."""
    measure = DiceLoss(
        include_background=True,
        to_onehot_y=not overlapping,
        sigmoid=overlapping,
        softmax=not overlapping,
        squared_pred=True,
        batch=True,
    )
    return 0.5 * cross_entropy(logits, targets, overlapping) + 0.5 * measure(logits, targets.float())


LOSSES: dict[str, Loss] = {
    "dice_ce": dice_ce,
    "dice_ce_squared": dice_ce_squared,
    "cross_entropy": cross_entropy,
    "dice": soft_dice,
}
