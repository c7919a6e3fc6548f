"""The probability above which a label counts as present, chosen on the validation split.

A loss that weighs rare labels makes their probabilities larger, so that one half is a poor place to divide them. The
threshold of a label is the one with the largest F1, or the largest index of Youden (Cancer 3:32, 1950), sensitivity +
specificity - 1. All thresholds between two neighbouring scores decide alike: of the best ones, the middle of their
widest interval is taken, where a change of rounding decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gossamer.errors import ErrorCode, Note
from gossamer.inference.decisions import HALF, Rule, Thresholds, thresholded_classes

FEW = 5
"""A threshold that rests on fewer images with or without its label is noted as uncertain."""


def choose_thresholds(
    probabilities: np.ndarray,
    targets: np.ndarray,
    classes: Sequence[str],
    *,
    multi_label: bool,
    where: str,
    rule: Rule = "f1",
) -> tuple[Thresholds | None, tuple[Note, ...]]:
    """Return the best threshold of each label on validation images, and notes on those that are none or uncertain.

    Args:
        probabilities: ``(samples, classes)`` of the validation split.
        targets: ``(samples, classes)`` of 0 and 1.
        classes: names of the columns.
        multi_label: whether a sample may have any number of classes.
        where: what the notes are about.
        rule: what is maximized.

    Returns:
        None for a single label of three and more classes, which is decided by the largest probability.
    """
    labels = thresholded_classes(classes, multi_label=multi_label)
    if not labels:
        return None, ()
    columns = range(len(classes)) if multi_label else (1,)
    values, never, always, few = [], [], [], []
    for label, k in zip(labels, columns, strict=True):
        truth = targets[:, k] > 0
        positives, negatives = int(truth.sum()), int((~truth).sum())
        if positives and negatives:
            values.append(best_threshold(probabilities[:, k], truth, rule))
            few += [f"{label} ({positives} with, {negatives} without)"] if min(positives, negatives) < FEW else []
        else:
            values.append(HALF)
            (always if positives else never).append(label)
    texts = [
        f"{beginning} {', '.join(names)}: {'its threshold stays' if len(names) == 1 else 'their thresholds stay'} 0.5"
        for beginning, names in (("no validation image has", never), ("every validation image has", always))
        if names
    ]
    if few:
        texts.append(f"thresholds rest on fewer than {FEW} validation images and are uncertain: {', '.join(few)}")
    kept = tuple(label for label in labels if label in {*never, *always})
    chosen = Thresholds(rule=rule, labels=labels, values=tuple(values), kept=kept)
    return chosen, tuple(Note(ErrorCode.LABEL, where, text) for text in texts)


def best_threshold(scores: np.ndarray, truth: np.ndarray, rule: Rule) -> float:
    """Return the middle of the widest interval of thresholds that are best by ``rule``; of equal ones, the lowest.

    Args:
        scores: ``(samples,)`` in 0..1.
        truth: ``(samples,)``, with at least one true and one false.
        rule: what is maximized.
    """
    scores = scores.astype(np.float64)
    cuts = np.unique(scores)
    lower, upper = np.concatenate([[0.0], cuts]), np.concatenate([cuts, [1.0]])
    # A threshold in lower..upper calls all scores from upper on, and none in the last interval.
    positives, negatives = int(truth.sum()), int((~truth).sum())
    hits = positives - np.append(np.searchsorted(np.sort(scores[truth]), cuts), positives)
    alarms = negatives - np.append(np.searchsorted(np.sort(scores[~truth]), cuts), negatives)
    value = 2 * hits / (hits + alarms + positives) if rule == "f1" else hits / positives - alarms / negatives
    value = np.where(upper > lower, value, -np.inf)  # nothing lies below a score of 0 or above one of 1
    best = np.flatnonzero(value >= value.max() - 1e-12)
    breaks = np.flatnonzero(np.diff(best) > 1)
    first, last = best[np.concatenate([[0], breaks + 1])], best[np.append(breaks, len(best) - 1)]
    widest = int(np.argmax(upper[last] - lower[first]))
    return float((lower[first[widest]] + upper[last[widest]]) / 2)
