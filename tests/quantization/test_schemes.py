"""The first scheme within the limit is chosen, and no later scheme is tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.bootstrap import Estimate
from gossamer.quantization.accuracy_loss import AccuracyLoss
from gossamer.quantization.products import Product
from gossamer.quantization.schemes import Int8Candidate, TriedCandidate, first_within_drop
from gossamer.quantization.verify import Int8Verification

VERIFICATION = Int8Verification(
    before={"Conv": 2}, quantized={"Conv": 1}, executed={}, floating={}, weights=0.5, macs=0.5
)
BAD = Product("Conv_3", "stem", "Conv", 9, 9)


class FakeSchemes:
    """Candidates with given drops; an error if a drop is None."""

    def __init__(self, **drops: float | None) -> None:
        self.drops = drops
        self.made: list[str] = []

    def candidates(self) -> Iterator[Int8Candidate]:
        for scheme in self.drops:
            self.made.append(scheme)
            yield Int8Candidate(scheme, scheme.encode(), (), (BAD,) if scheme == "mixed" else ())  # type: ignore[arg-type]

    def examine(self, candidate: Int8Candidate) -> tuple[AccuracyLoss, Int8Verification]:
        drop = self.drops[candidate.scheme]
        if drop is None:
            raise GossamerError(ErrorCode.VALUE, "a/b", "has the scale 1", "calibrate")
        estimate = Estimate(drop, drop - 0.01, drop + 0.02)
        loss = AccuracyLoss(
            split="val", metric="auroc", samples=7, groups=5, float32=0.9, int8=0.9 - drop, drop=estimate,
            sqnr_db=30.0, flips=0.0,
        )  # fmt: skip
        return loss, VERIFICATION


def test_the_next_scheme_follows_one_that_loses_too_much() -> None:
    schemes, told = FakeSchemes(dynamic=0.03, static=0.004, mixed=0.0), list[TriedCandidate]()
    winner, steps = first_within_drop(schemes.candidates(), schemes.examine, 0.005, told.append)
    assert winner is not None
    assert (winner.scheme, winner.model) == ("static", b"static")
    assert schemes.made == ["dynamic", "static"]
    assert told == list(steps)
    assert [step.scheme for step in steps] == ["dynamic", "static"]
    assert "auroc drops by 0.0300 (0.0200 to 0.0500)" in str(steps[0])


def test_a_drop_equal_to_the_limit_and_a_gain_are_accepted() -> None:
    for drop in (0.005, -0.2):
        schemes = FakeSchemes(dynamic=drop)
        winner, _ = first_within_drop(schemes.candidates(), schemes.examine, 0.005)
        assert winner is not None


def test_a_degenerate_candidate_is_refused_with_its_reason() -> None:
    schemes = FakeSchemes(dynamic=None, static=None, mixed=0.001)
    winner, steps = first_within_drop(schemes.candidates(), schemes.examine, 0.005)
    assert winner is not None
    assert winner.scheme == "mixed"
    assert [step.refused for step in steps] == ["a/b: has the scale 1"] * 2 + [None]
    assert str(steps[2]).startswith("mixed, 1 layer in float32: auroc drops")
    assert steps[2].to_json()["kept"] == ["stem"]


@pytest.mark.parametrize("drops", [{}, {"dynamic": 0.5, "static": 0.006, "mixed": float("nan")}])
def test_none_is_chosen_if_none_meets_the_limit(drops: dict[str, float | None]) -> None:
    schemes = FakeSchemes(**drops)
    winner, steps = first_within_drop(schemes.candidates(), schemes.examine, 0.005)
    assert winner is None
    assert len(steps) == len(drops)
