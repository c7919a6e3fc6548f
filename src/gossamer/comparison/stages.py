"""The stages of a comparison, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gossamer.comparison.compare_plan import ComparePlan
from gossamer.comparison.folder import Trial, TrialStage
from gossamer.variants import Variant

EXPORT_S, QUANTIZE_S = 40.0, 60.0
"""Assumed times of an export and of a quantization, in seconds, until the first of each has ended."""
MEASURE_S = 40.0
"""Assumed time to measure a variant, in seconds, until the first measurement has ended."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a comparison.

    Attributes:
        name: Name of the stage.
        variant: Variant of the trial; None for the measurement, which concerns all variants.
        seed: Seed of the trial.
        seconds: Expected time in seconds.
    """

    name: TrialStage | Literal["measure"]
    variant: Variant | None
    seed: int
    seconds: float

    @property
    def trial(self) -> Trial | None:
        """The trial of the stage; None for the measurement."""
        return None if self.variant is None else Trial(variant=self.variant, seed=self.seed)

    @property
    def title(self) -> str:
        """Name of the stage with its variant and seed, for people."""
        return self.name if self.variant is None else f"{self.name} {self.variant.name}, seed {self.seed}"


def list_stages(plan: ComparePlan) -> list[PlannedStage]:
    """Return all stages: the first seed of every variant, the measurement, then the other seeds.

    This order gives an interrupted comparison a complete table of its first seed.
    """
    stages: list[PlannedStage] = []
    for number, seed in enumerate(plan.training.seeds):
        for variant in plan.variants:
            stages.append(PlannedStage("train", variant, seed, plan.forecasts[variant.key].train_s))
            wanted = plan.stages(Trial(variant=variant, seed=seed))
            stages += [PlannedStage("export", variant, seed, EXPORT_S)] if "export" in wanted else []
            stages += [PlannedStage("quantize", variant, seed, QUANTIZE_S)] if "quantize" in wanted else []
        if number == 0:
            stages.append(PlannedStage("measure", None, seed, MEASURE_S * len(plan.variants)))
    return stages
