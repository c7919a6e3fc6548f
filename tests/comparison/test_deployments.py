"""The Pareto front of quality and cost."""

from __future__ import annotations

import numpy as np

from gossamer.comparison.deployments import find_pareto_front


def test_pareto_front_by_hand() -> None:
    costs, qualities = [5.0, 2.0, 9.0, 3.0, 4.0], [0.90, 0.70, 0.95, 0.85, 0.80]
    assert find_pareto_front(costs, qualities) == [1, 3, 0, 2]  # the fifth is dearer and worse than the fourth


def test_equal_candidates_stay_and_dominated_ones_do_not() -> None:
    assert find_pareto_front([1.0, 1.0], [0.5, 0.5]) == [0, 1]
    assert find_pareto_front([1.0, 1.0], [0.5, 0.6]) == [1]
    assert find_pareto_front([1.0, 2.0], [0.5, 0.5]) == [0]
    assert find_pareto_front([], []) == []


def test_pareto_front_agrees_with_all_pairs() -> None:
    generator = np.random.default_rng(0)
    costs, qualities = generator.integers(9, size=60) / 4, generator.integers(9, size=60) / 8
    kept = [
        k
        for k in range(60)
        if not any(
            costs[j] <= costs[k]
            and qualities[j] >= qualities[k]
            and (costs[j], qualities[j]) != (costs[k], qualities[k])
            for j in range(60)
        )
    ]
    assert sorted(find_pareto_front(list(costs), list(qualities))) == kept
