"""Costs of every variant on this machine, measured side by side once the first seed is trained.

Calls of all variants in all precisions take turns, so that a disturbance of the machine affects all of them. Memory is
measured in further processes, one for each figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gossamer.checkpoint import load_model
from gossamer.comparison.compare_plan import ComparePlan, read_plan
from gossamer.comparison.folder import BASELINE, STAGE_OF_PRECISION, CompareFolder, Trial, VariantCosts
from gossamer.comparison.network_costs import measure_cost_growth, measure_or_explain, measure_training_costs
from gossamer.data import Dataset, open_dataset
from gossamer.errors import GossamerError
from gossamer.files import write_json
from gossamer.inference.bundle import open_bundle
from gossamer.profiling.bundle import measure_bundle_memory, measure_file_size
from gossamer.profiling.energy import measure_energy, open_meter
from gossamer.profiling.figure import Figure, peak_figure
from gossamer.profiling.latency import Latency, measure_latencies
from gossamer.profiling.macs import count_macs
from gossamer.profiling.memory import measure_peak_memory
from gossamer.training.run_folder import RunFolder
from gossamer.training.tasks import training_task
from gossamer.variants import RuntimePrecision, Variant

MOST_VARIANTS = 12
"""Largest number of variants of one process."""
MOST_PARAMETERS = 100_000_000
"""Largest number of parameters of one process. Further groups are measured with their baseline in turns."""
_ROUND_S = 60.0
_ENERGY_S = 1.5
_UNITS = {"file": "bytes", "latency_p50": "ms", "latency_p95": "ms", "peak_memory": "bytes", "energy": "J"}


@dataclass(frozen=True)
class MeasurementGroup:
    """Variants that are measured together.

    Attributes:
        variants: Variants whose figures are kept.
        company: Baselines that only take turns with them.
    """

    variants: tuple[Variant, ...]
    company: tuple[Variant, ...] = ()


def group_variants(plan: ComparePlan) -> list[MeasurementGroup]:
    """Return the variants of a plan in as few groups as memory allows."""
    groups: list[list[Variant]] = [[]]
    sizes = {variant: plan.forecasts[variant.key].parameters for variant in plan.variants}
    for variant in plan.variants:
        members = groups[-1]
        parameters = sum(sizes[each] for each in (*members, variant))
        if members and (len(members) == MOST_VARIANTS or parameters > MOST_PARAMETERS):
            groups.append([])
        groups[-1].append(variant)
    found = []
    for members in groups:
        baselines = (Variant(model=each.model, attention=BASELINE) for each in members if each.attention is not None)
        company = dict.fromkeys(each for each in baselines if each in plan.variants and each not in members)
        found.append(MeasurementGroup(tuple(members), tuple(company)))
    return found


def list_open_groups(folder: CompareFolder, plan: ComparePlan) -> list[int]:
    """Return the numbers of the groups with a variant that is trained but not measured."""
    return [
        number
        for number, group in enumerate(group_variants(plan))
        if any(_is_trained(folder, plan, each) and not folder.costs_path(each).exists() for each in group.variants)
    ]


def measure_group(folder: CompareFolder, number: int) -> None:
    """Measure the trained variants of a group, and write a file for each.

    Args:
        folder: Folder of the comparison.
        number: Number of the group in ``group_variants``.
    """
    plan = read_plan(folder.plan_path)
    torch.set_num_threads(plan.request.threads)
    group = group_variants(plan)[number]
    dataset = open_dataset(Path(plan.data.source), seed=plan.training.seeds[0], task=plan.data.task)
    measured = [
        _MeasuredVariant(folder, plan, dataset, variant)
        for variant in (*group.variants, *group.company)
        if _is_trained(folder, plan, variant)
    ]
    calls: dict[tuple[Variant, RuntimePrecision], Callable[[], object]] = {}
    for each in measured:
        calls |= {(each.variant, precision): call for precision, call in each.calls.items()}
    latencies = _time_in_turns(calls)
    company = f"in turns with {len(calls) - 1} others" if len(calls) > 1 else "alone"
    for each in measured:
        if each.variant in group.variants:
            own: dict[RuntimePrecision, Latency] = {name: latencies[each.variant, name] for name in each.calls}
            path = folder.costs_path(each.variant)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, each.measure_costs(own, company).to_json())


class _MeasuredVariant:
    """A variant with its trained network and its bundles, ready to be called."""

    def __init__(self, folder: CompareFolder, plan: ComparePlan, dataset: Dataset, variant: Variant) -> None:
        self.variant, self.threads = variant, plan.request.threads
        self.trial = Trial(variant=variant, seed=plan.training.seeds[0])
        run = RunFolder(folder.run_path(self.trial)).read_config()
        self.recipe = run.recipe
        self.network = load_model(folder.run_path(self.trial))
        task = training_task(plan.data.task)
        self.images = task.sample_input(run, task.prepare_samples(run, dataset, dataset.split("val")[:1]))
        self.calls: dict[RuntimePrecision, Callable[[], object]] = {}
        self.bundles = {}
        self.reasons: dict[RuntimePrecision, str] = {}
        for precision in plan.request.precisions:
            if precision == "torch":
                self.calls[precision] = self._torch_call()
            else:
                self._open_bundle(folder, precision)

    def measure_costs(self, latencies: dict[RuntimePrecision, Latency], company: str) -> VariantCosts:
        """Return all costs of the variant.

        Args:
            latencies: Latency in each precision.
            company: Description of the other calls that took turns.
        """
        with self.network.keep_all_tokens():
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
            **measure_training_costs(self.network.config, batch=self.recipe.batch_size, threads=self.threads),
        }
        precisions: dict[RuntimePrecision, dict[str, Figure]] = {
            precision: self._costs_in(precision, latencies[precision], company) for precision in self.calls
        }
        for precision, reason in self.reasons.items():
            precisions[precision] = {name: Figure(None, unit, "unavailable", reason) for name, unit in _UNITS.items()}
        return VariantCosts(network=network, precisions=precisions, growth=measure_cost_growth(self.network.config))

    def _costs_in(self, precision: RuntimePrecision, latency: Latency, company: str) -> dict[str, Figure]:
        engine = "torch" if precision == "torch" else "onnxruntime"
        size = "x".join(str(side) for side in self.images.shape[2:])
        threads = self.threads
        where = f"{engine}, batch 1 of {size}, {threads} thread{'' if threads == 1 else 's'}"
        how = f"wall clock, {where}, {latency.calls} calls after warm-up, {company}{latency.remark}"
        return {
            **self._process_costs(precision, where),
            "latency_p50": Figure(latency.p50_ms, "ms", "measured", how),
            "latency_p95": Figure(latency.p95_ms, "ms", "measured", how),
            "energy": measure_or_explain(
                lambda: measure_energy(self.calls[precision], meter=open_meter(), seconds=_ENERGY_S), "J"
            ),
        }

    def _process_costs(self, precision: RuntimePrecision, where: str) -> dict[str, Figure]:
        """Return the size of the file, and the peak memory of a fresh process that runs it."""
        if precision != "torch":
            bundle = self.bundles[precision]
            return {"file": measure_file_size(bundle), "peak_memory": measure_bundle_memory(bundle)["peak_memory"]}
        weights = sum(tensor.numel() * tensor.element_size() for tensor in self.network.state_dict().values())
        peak = measure_peak_memory(self.network.config, batch=1, threads=self.threads)
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

    def _open_bundle(self, folder: CompareFolder, precision: Literal["float32", "int8"]) -> None:
        """Open a bundle, or keep the reason why there is none."""
        state = folder.read_state(self.trial, STAGE_OF_PRECISION[precision])
        if state is None or state.failed:
            self.reasons[precision] = "the bundle does not exist" if state is None else str(state.failed)
            return
        try:
            bundle = open_bundle(folder.bundle_path(self.trial, precision), threads=self.threads)
        except GossamerError as error:
            self.reasons[precision] = str(error)
            return
        self.bundles[precision] = bundle
        self.calls[precision] = lambda: bundle.compute_logits(self.images)


def _time_in_turns(
    calls: dict[tuple[Variant, RuntimePrecision], Callable[[], object]],
) -> dict[tuple[Variant, RuntimePrecision], Latency]:
    """Time all calls in turns, in 5 to 15 rounds or more, depending on the time of a round."""
    named = {f"{precision} {variant.key}": call for (variant, precision), call in calls.items()}
    first = measure_latencies(named, seconds=0.0, min_rounds=1)
    round_s = sum(latency.p50_ms for latency in first.values()) / 1e3
    rounds = int(np.clip(_ROUND_S / max(round_s, 1e-6), 5, 15))
    found = measure_latencies(named, seconds=max(3.0, 0.5 * len(named)), min_rounds=rounds)
    return {key: found[name] for key, name in zip(calls, named, strict=True)}


def _is_trained(folder: CompareFolder, plan: ComparePlan, variant: Variant) -> bool:
    state = folder.read_state(Trial(variant=variant, seed=plan.training.seeds[0]), "train")
    return state is not None and state.failed is None
