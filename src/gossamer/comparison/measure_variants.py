"""What every variant costs on this machine, measured side by side once seed 0 is trained.

Run as a module, this file is the process that does it: calls of all variants in all precisions take turns, so that what
disturbs the machine for a while disturbs all of them. Memory is measured in further processes, one for each figure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gossamer.checkpoint import load_model
from gossamer.comparison.folder import BASELINE, STAGE_OF_PRECISION, CompareFolder, MeasuredCosts, Trial
from gossamer.comparison.network_costs import measure_cost_growth, measure_or_explain, measure_training_costs
from gossamer.comparison.plan_file import ComparePlan, read_plan
from gossamer.comparison.sample_input import read_sample_input
from gossamer.data import ClassificationDataset, SegmentationDataset, open_dataset
from gossamer.errors import GossamerError
from gossamer.files import write_json
from gossamer.inference.bundle import open_bundle
from gossamer.profiling.bundle import file_size, measure_bundle_memory
from gossamer.profiling.energy import measure_energy, open_meter
from gossamer.profiling.figure import Figure, peak_figure
from gossamer.profiling.latency import Latency, measure_latencies
from gossamer.profiling.macs import count_macs
from gossamer.profiling.memory import measure_peak_memory
from gossamer.training.run_folder import RunFolder
from gossamer.variants import RuntimePrecision, Variant

MOST_VARIANTS = 12
MOST_PARAMETERS = 100_000_000
"""Of one process: networks beyond that are measured in further groups, each with the softmax baseline in it."""
_ROUND_S = 60.0
_ENERGY_S = 1.5
_UNITS = {"file": "bytes", "latency_p50": "ms", "latency_p95": "ms", "peak_memory": "bytes", "energy": "J"}


@dataclass(frozen=True)
class MeasurementGroup:
    """Variants that are measured together: those whose figures are kept, and baselines that are there for company."""

    variants: tuple[Variant, ...]
    company: tuple[Variant, ...] = ()


def group_variants(plan: ComparePlan) -> list[MeasurementGroup]:
    """Return the variants of a plan in as few groups as memory allows."""
    groups: list[list[Variant]] = [[]]
    sizes = {variant: plan.options["forecast"][variant.key]["parameters"] for variant in plan.variants}
    for variant in plan.variants:
        held = groups[-1]
        if held and (len(held) == MOST_VARIANTS or sum(sizes[k] for k in (*held, variant)) > MOST_PARAMETERS):
            groups.append([])
        groups[-1].append(variant)
    found = []
    for held in groups:
        baselines = (
            Variant(model=variant.model, attention=BASELINE) for variant in held if variant.attention is not None
        )
        company = dict.fromkeys(
            baseline for baseline in baselines if baseline in plan.variants and baseline not in held
        )
        found.append(MeasurementGroup(tuple(held), tuple(company)))
    return found


def list_open_groups(folder: CompareFolder, plan: ComparePlan) -> list[int]:
    """Return the numbers of the groups with a variant that is trained and not measured."""
    return [
        number
        for number, group in enumerate(group_variants(plan))
        if any(
            _is_trained(folder, plan, variant) and not folder.measured(variant).exists() for variant in group.variants
        )
    ]


def measure_group(folder: CompareFolder, number: int) -> None:
    """Measure the variants of a group that are trained, and write a file for each."""
    plan = read_plan(folder.plan)
    torch.set_num_threads(plan.threads)
    group = group_variants(plan)[number]
    dataset = open_dataset(Path(plan.data), seed=plan.seeds[0], task=plan.task)
    subjects = [
        _MeasuredVariant(folder, plan, dataset, variant)
        for variant in (*group.variants, *group.company)
        if _is_trained(folder, plan, variant)
    ]
    calls: dict[tuple[Variant, RuntimePrecision], Callable[[], object]] = {}
    for subject in subjects:
        calls |= {(subject.variant, precision): call for precision, call in subject.calls.items()}
    latencies = _take_turns(calls)
    beside = f"in turns with {len(calls) - 1} others" if len(calls) > 1 else "alone"
    for subject in subjects:
        if subject.variant in group.variants:
            own: dict[RuntimePrecision, Latency] = {
                precision: latencies[subject.variant, precision] for precision in subject.calls
            }
            folder.measured(subject.variant).parent.mkdir(parents=True, exist_ok=True)
            write_json(folder.measured(subject.variant), subject.measured(own, beside).to_json())


class _MeasuredVariant:
    """A variant with its trained network and its bundles, ready to be called."""

    def __init__(
        self,
        folder: CompareFolder,
        plan: ComparePlan,
        dataset: ClassificationDataset | SegmentationDataset,
        variant: Variant,
    ) -> None:
        self.variant, self.plan = variant, plan
        self.trial = Trial(variant=variant, seed=plan.seeds[0])
        run = RunFolder(folder.run(self.trial)).read_config()
        self.recipe = run.recipe
        self.network = load_model(folder.run(self.trial))
        self.images = read_sample_input(run, dataset)
        self.calls: dict[RuntimePrecision, Callable[[], object]] = {}
        self.bundles = {}
        self.reasons: dict[RuntimePrecision, str] = {}
        for precision in plan.options["precisions"]:
            if precision == "torch":
                self.calls[precision] = self._torch_call()
            else:
                self._open(folder, precision)

    def measured(self, latencies: dict[RuntimePrecision, Latency], beside: str) -> MeasuredCosts:
        """Return everything that the variant costs."""
        with self.network.all_tokens():
            counted = count_macs(self.network, torch.zeros(1, *self.images.shape[1:]))
        closed = self.network.cost()
        size = "x".join(str(side) for side in self.images.shape[2:])
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        network = {
            "parameters": Figure(parameters, "parameters", "computed", "counted in the network"),
            "macs": Figure(
                counted.total, "MACs", "computed", f"operators of one {size} image, attention included, nothing pruned"
            ),
            "exponentials": Figure(closed.exponentials, "exponentials", "computed", "closed form"),
            **measure_training_costs(self.network.config, batch=self.recipe.batch_size, threads=self.plan.threads),
        }
        precisions: dict[RuntimePrecision, dict[str, Figure]] = {
            precision: self._precision(precision, latencies[precision], beside) for precision in self.calls
        }
        for precision, reason in self.reasons.items():
            precisions[precision] = {name: Figure(None, unit, "unavailable", reason) for name, unit in _UNITS.items()}
        return MeasuredCosts(network=network, precisions=precisions, growth=measure_cost_growth(self.network.config))

    def _precision(self, precision: RuntimePrecision, latency: Latency, beside: str) -> dict[str, Figure]:
        engine = "torch" if precision == "torch" else "onnxruntime"
        size = "x".join(str(side) for side in self.images.shape[2:])
        threads = self.plan.threads
        where = f"{engine}, batch 1 of {size}, {threads} thread{'' if threads == 1 else 's'}"
        how = f"wall clock, {where}, {latency.calls} calls after warm-up, {beside}{latency.remark}"
        return {
            **self._of_a_process(precision, where),
            "latency_p50": Figure(latency.p50_ms, "ms", "measured", how),
            "latency_p95": Figure(latency.p95_ms, "ms", "measured", how),
            "energy": measure_or_explain(
                lambda: measure_energy(self.calls[precision], meter=open_meter(), seconds=_ENERGY_S), "J"
            ),
        }

    def _of_a_process(self, precision: RuntimePrecision, where: str) -> dict[str, Figure]:
        """Return the size of the file, and the peak of a fresh process that runs it."""
        if precision != "torch":
            bundle = self.bundles[precision]
            return {"file": file_size(bundle), "peak_memory": measure_bundle_memory(bundle)["peak_memory"]}
        weights = sum(tensor.numel() * tensor.element_size() for tensor in self.network.state_dict().values())
        peak = measure_peak_memory(self.network.config, batch=1, threads=self.plan.threads)
        return {
            "file": Figure(weights, "bytes", "computed", "weights in float32"),
            "peak_memory": peak_figure(None if peak is None else peak.process_bytes, f"whole fresh process, {where}"),
        }

    def _torch_call(self) -> Callable[[], object]:
        images = torch.from_numpy(self.images)

        def call() -> object:
            with torch.inference_mode():
                return self.network(images)

        return call

    def _open(self, folder: CompareFolder, precision: Literal["float32", "int8"]) -> None:
        """Open a bundle; where there is none, keep the reason."""
        state = folder.read_state(self.trial, STAGE_OF_PRECISION[precision])
        if state is None or state.failed:
            self.reasons[precision] = "it was not made" if state is None else str(state.failed)
            return
        try:
            bundle = open_bundle(folder.bundle(self.trial, precision), threads=self.plan.threads)
        except GossamerError as error:
            self.reasons[precision] = str(error)
            return
        self.bundles[precision] = bundle
        self.calls[precision] = lambda: bundle.compute_logits(self.images)


def _take_turns(
    calls: dict[tuple[Variant, RuntimePrecision], Callable[[], object]],
) -> dict[tuple[Variant, RuntimePrecision], Latency]:
    """Time all calls in turn, in 5 to 15 rounds or more, by how long a round takes."""
    named = {f"{precision} {variant.key}": call for (variant, precision), call in calls.items()}
    first = measure_latencies(named, seconds=0.0, min_rounds=1)
    round_s = sum(latency.p50_ms for latency in first.values()) / 1e3
    rounds = int(np.clip(_ROUND_S / max(round_s, 1e-6), 5, 15))
    found = measure_latencies(named, seconds=max(3.0, 0.5 * len(named)), min_rounds=rounds)
    return {key: found[name] for key, name in zip(calls, named, strict=True)}


def _is_trained(folder: CompareFolder, plan: ComparePlan, variant: Variant) -> bool:
    state = folder.read_state(Trial(variant=variant, seed=plan.seeds[0]), "train")
    return state is not None and state.failed is None


if __name__ == "__main__":
    measure_group(CompareFolder(Path(sys.argv[1])), int(sys.argv[2]))
