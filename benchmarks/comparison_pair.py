"""Compare two variants of a finished ``gossamer compare``, whose page compares each only with softmax.

Example: python benchmarks/comparison_pair.py compared/breastmnist vit_tiny:sequence_norm vit_tiny:sima

It prints the difference of the first to the second, mean over the seeds that both have, with a 95 % interval over
patients and the p of a paired permutation test, not corrected for other tests.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gossamer.comparison.compare_plan import read_plan
from gossamer.comparison.folder import CompareFolder
from gossamer.comparison.paired_tests import estimate_difference
from gossamer.comparison.results import collect_results
from gossamer.variants import Variant


def parse_variant(text: str) -> Variant:
    """Return the variant that ``model:attention`` names, or ``model`` for one without attention."""
    model, _, attention = text.partition(":")
    return Variant(model=model, attention=attention or None)


def main() -> None:
    """Print the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("variants", nargs=2, type=parse_variant, metavar="MODEL:ATTENTION")
    options = parser.parse_args()
    folder = CompareFolder(options.folder)
    results = collect_results(folder, read_plan(folder.plan_path))
    unknown = [variant.name for variant in options.variants if variant not in results.plan.variants]
    if unknown:
        parser.error(f"{unknown[0]} is not in {options.folder}")
    ours, theirs = results.pair_scores(*options.variants)
    if not ours:
        parser.error("the two have no seed in common")
    found = estimate_difference(ours, theirs, results.draw_weights(), test=True)
    estimate, p = found.estimate, "none" if found.p is None else f"{found.p:.4f}"
    each = ", ".join(f"{seed:+.3f}" for seed in found.seeds)
    first, second = (variant.name for variant in options.variants)
    print(
        f"{results.label} of {first} less {second}: {estimate.value:+.3f}, {estimate.low:+.3f} to {estimate.high:+.3f}"
    )
    print(f"p {p}, {found.permutations} permutations; each seed: {each}")


if __name__ == "__main__":
    main()
