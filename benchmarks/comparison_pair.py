"""Hold two kinds of a finished ``gossamer compare`` against each other; its page holds each against softmax alone.

Example: python benchmarks/comparison_pair.py compared/breastmnist vit_tiny:sequence_norm vit_tiny:sima

It prints how much better the first is than the second, mean over the seeds that both have, with a 95 % interval over
patients and the p of a paired permutation test, not corrected for other tests.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gossamer.comparison.folder import CompareFolder, Kind
from gossamer.comparison.plan_file import read_plan
from gossamer.comparison.results import read_results
from gossamer.comparison.statistics import difference


def kind_of(text: str) -> Kind:
    """Return the kind that ``model:attention`` names, or ``model`` where it has none."""
    model, _, attention = text.partition(":")
    return Kind(model=model, attention=attention or None)


def main() -> None:
    """Print the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kinds", nargs=2, type=kind_of, metavar="MODEL:ATTENTION")
    options = parser.parse_args()
    folder = CompareFolder(options.folder)
    results = read_results(folder, read_plan(folder.plan))
    unknown = [kind.name for kind in options.kinds if kind not in results.plan.kinds]
    if unknown:
        parser.error(f"{unknown[0]} is not in {options.folder}")
    ours, theirs = results.shared(*options.kinds)
    if not ours:
        parser.error("the two have no seed in common")
    found = difference(ours, theirs, results.weights(), test=True)
    estimate, p = found.estimate, "none" if found.p is None else f"{found.p:.4f}"
    each = ", ".join(f"{seed:+.3f}" for seed in found.seeds)
    first, second = (kind.name for kind in options.kinds)
    print(
        f"{results.label} of {first} less {second}: {estimate.value:+.3f}, {estimate.low:+.3f} to {estimate.high:+.3f}"
    )
    print(f"p {p}, {found.permutations} permutations; each seed: {each}")


if __name__ == "__main__":
    main()
