"""The probability above which a label counts as present, chosen on the validation split.

A loss that weighs rare labels increases their probabilities, so that one half separates them poorly. The threshold of a
label is the one with the largest F1, or with the largest index of Youden (Cancer 3:32, 1950), sensitivity + specificity
- 1. All thresholds between two neighbouring scores decide identically: the middle of the widest interval of best
thresholds is taken, where rounding changes no decision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gossamer.errors import ErrorCode, Note
from gossamer.inference.decisions import HALF, Rule, Thresholds, thresholded_classes

FEW_IMAGES = 5
"""Number of images with, and without, a label below which its threshold is noted as uncertain."""


def choose_thresholds(
    probabilities: np.ndarray,
    targets: np.ndarray,
    classes: Sequence[str],
    *,
    multi_label: bool,
    where: str,
    rule: Rule = "f1",
) -> tuple[Thresholds | None, tuple[Note, ...]]:
    """Return the best threshold of each label on validation images, and notes on uncertain ones.

    Args:
        probabilities: Probabilities ``(samples, classes)`` of the validation split.
        targets: Truth ``(samples, classes)`` of 0 and 1.
        classes: Class names, in the order of the columns.
        multi_label: Whether a sample may have any number of classes.
        where: Path of the data set, for the notes.
        rule: Criterion that is maximized.

    Returns:
        The thresholds, or None for single labels of three or more classes, which the largest probability decides; and
        the notes.
    """
    labels = thresholded_classes(classes, multi_label=multi_label)
    if not labels:
        return None, ()
    columns = range(len(classes)) if multi_label else (1,)
    values, never, always, uncertain = [], [], [], []
    for label, k in zip(labels, columns, strict=True):
        truth = targets[:, k] > 0
        positives, negatives = int(truth.sum()), int((~truth).sum())
        if positives and negatives:
            values.append(find_best_threshold(probabilities[:, k], truth, rule))
            if min(positives, negatives) < FEW_IMAGES:
                uncertain.append(f"{label} ({positives} with, {negatives} without)")
        else:
            values.append(HALF)
            (always if positives else never).append(label)
    texts = [
        f"{beginning} {', '.join(names)}: {'its threshold stays' if len(names) == 1 else 'their thresholds stay'} 0.5"
        for beginning, names in (("no validation image has", never), ("every validation image has", always))
        if names
    ]
    if uncertain:
        texts.append(
            f"thresholds rest on fewer than {FEW_IMAGES} validation images and are uncertain: {', '.join(uncertain)}"
        )
    kept = tuple(label for label in labels if label in {*never, *always})
    chosen = Thresholds(rule=rule, labels=labels, values=tuple(values), kept=kept)
    return chosen, tuple(Note(ErrorCode.LABEL, where, text) for text in texts)


def find_best_threshold(scores: np.ndarray, truth: np.ndarray, rule: Rule) -> float:
    """Return the middle of the widest interval of best thresholds, or of the lowest such interval.

    Args:
        scores: Scores ``(samples,)`` in 0..1.
        truth: Boolean array ``(samples,)`` with at least one true and one false value.
        rule: Criterion that is maximized.
    """
    scores = scores.astype(np.float64)
    cuts = np.unique(scores)
    lower, upper = np.concatenate([[0.0], cuts]), np.concatenate([cuts, [1.0]])
    # A threshold in lower..upper selects all scores from upper on, and none in the last interval.
    positives, negatives = int(truth.sum()), int((~truth).sum())
    hits = positives - np.append(np.searchsorted(np.sort(scores[truth]), cuts), positives)
    alarms = negatives - np.append(np.searchsorted(np.sort(scores[~truth]), cuts), negatives)
    value = 2 * hits / (hits + alarms + positives) if rule == "f1" else hits / positives - alarms / negatives
    value = np.where(upper > lower, value, -np.inf)  # there is no threshold below a score of 0 or above one of 1
    best = np.flatnonzero(value >= value.max() - 1e-12)
    breaks = np.flatnonzero(np.diff(best) > 1)
    first, last = best[np.concatenate([[0], breaks + 1])], best[np.append(breaks, len(best) - 1)]
    widest = int(np.argmax(upper[last] - lower[first]))
    return float((lower[first[widest]] + upper[last[widest]]) / 2)
