"""What every kind costs on this machine, measured side by side once seed 0 is trained.

Run as a module, this file is the process that does it: calls of all kinds in all precisions take turns, so that what
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
from gossamer.comparison.folder import NEEDED, TWIN, Cell, CompareFolder, Kind, Measured, Precision, key_of
from gossamer.comparison.network_costs import attempt, costs_of_training, growth_of
from gossamer.comparison.plan_file import ComparePlan, read_plan
from gossamer.comparison.sample_input import sample_input
from gossamer.data import ClassificationDataset, SegmentationDataset, open_dataset
from gossamer.errors import GossamerError
from gossamer.files import write_json
from gossamer.inference.bundle import open_bundle
from gossamer.profiling.bundle import file_size, measure_bundle_memory
from gossamer.profiling.energy import measure_energy, open_meter
from gossamer.profiling.figure import Figure, peak_figure
from gossamer.profiling.latency import Latency, time_together
from gossamer.profiling.macs import count_macs
from gossamer.profiling.memory import measure_peak_memory
from gossamer.training.run_folder import RunFolder

MOST_KINDS = 12
MOST_PARAMETERS = 100_000_000
"""Of one process: networks beyond that are measured in further groups, each with the softmax twin in it."""
_ROUND_S = 60.0
_ENERGY_S = 1.5
_UNITS = {"file": "bytes", "latency_p50": "ms", "latency_p95": "ms", "peak_memory": "bytes", "energy": "J"}


@dataclass(frozen=True)
class Group:
    """Kinds that are measured together: those whose figures are kept, and twins that are there for company."""

    kinds: tuple[Kind, ...]
    company: tuple[Kind, ...] = ()


def groups_of(plan: ComparePlan) -> list[Group]:
    """Return the kinds of a plan in as few groups as memory allows."""
    groups: list[list[Kind]] = [[]]
    sizes = {kind: plan.options["forecast"][key_of(kind)]["parameters"] for kind in plan.kinds}
    for kind in plan.kinds:
        held = groups[-1]
        if held and (len(held) == MOST_KINDS or sum(sizes[k] for k in (*held, kind)) > MOST_PARAMETERS):
            groups.append([])
        groups[-1].append(kind)
    found = []
    for held in groups:
        twins = (Kind(model=kind.model, attention=TWIN) for kind in held if kind.attention is not None)
        company = dict.fromkeys(twin for twin in twins if twin in plan.kinds and twin not in held)
        found.append(Group(tuple(held), tuple(company)))
    return found


def groups_to_measure(folder: CompareFolder, plan: ComparePlan) -> list[int]:
    """Return the numbers of the groups with a kind that is trained and not measured."""
    return [
        number
        for number, group in enumerate(groups_of(plan))
        if any(_is_trained(folder, plan, kind) and not folder.measured(kind).exists() for kind in group.kinds)
    ]


def measure_group(folder: CompareFolder, number: int) -> None:
    """Measure the kinds of a group that are trained, and write a file for each."""
    plan = read_plan(folder.plan)
    torch.set_num_threads(plan.threads)
    group = groups_of(plan)[number]
    dataset = open_dataset(Path(plan.data), seed=plan.seeds[0], task=plan.task)
    subjects = [
        _Subject(folder, plan, dataset, kind)
        for kind in (*group.kinds, *group.company)
        if _is_trained(folder, plan, kind)
    ]
    calls: dict[tuple[Kind, Precision], Callable[[], object]] = {}
    for subject in subjects:
        calls |= {(subject.kind, precision): call for precision, call in subject.calls.items()}
    latencies = _take_turns(calls)
    beside = f"in turns with {len(calls) - 1} others" if len(calls) > 1 else "alone"
    for subject in subjects:
        if subject.kind in group.kinds:
            own: dict[Precision, Latency] = {
                precision: latencies[subject.kind, precision] for precision in subject.calls
            }
            folder.measured(subject.kind).parent.mkdir(parents=True, exist_ok=True)
            write_json(folder.measured(subject.kind), subject.measured(own, beside).to_json())


class _Subject:
    """A kind with its trained network and its bundles, ready to be called."""

    def __init__(
        self, folder: CompareFolder, plan: ComparePlan, dataset: ClassificationDataset | SegmentationDataset, kind: Kind
    ) -> None:
        self.kind, self.plan = kind, plan
        self.cell = Cell(kind=kind, seed=plan.seeds[0])
        run = RunFolder(folder.run(self.cell)).read_config()
        self.recipe = run.recipe
        self.network = load_model(folder.run(self.cell))
        self.images = sample_input(run, dataset)
        self.calls: dict[Precision, Callable[[], object]] = {}
        self.bundles = {}
        self.reasons: dict[Precision, str] = {}
        for precision in plan.options["precisions"]:
            if precision == "torch":
                self.calls[precision] = self._torch_call()
            else:
                self._open(folder, precision)

    def measured(self, latencies: dict[Precision, Latency], beside: str) -> Measured:
        """Return everything that the kind costs."""
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
            **costs_of_training(self.network.config, batch=self.recipe.batch_size, threads=self.plan.threads),
        }
        precisions: dict[Precision, dict[str, Figure]] = {
            precision: self._precision(precision, latencies[precision], beside) for precision in self.calls
        }
        for precision, reason in self.reasons.items():
            precisions[precision] = {name: Figure(None, unit, "unavailable", reason) for name, unit in _UNITS.items()}
        return Measured(network=network, precisions=precisions, growth=growth_of(self.network.config))

    def _precision(self, precision: Precision, latency: Latency, beside: str) -> dict[str, Figure]:
        engine = "torch" if precision == "torch" else "onnxruntime"
        size = "x".join(str(side) for side in self.images.shape[2:])
        threads = self.plan.threads
        where = f"{engine}, batch 1 of {size}, {threads} thread{'' if threads == 1 else 's'}"
        how = f"wall clock, {where}, {latency.calls} calls after warm-up, {beside}{latency.remark}"
        return {
            **self._of_a_process(precision, where),
            "latency_p50": Figure(latency.p50_ms, "ms", "measured", how),
            "latency_p95": Figure(latency.p95_ms, "ms", "measured", how),
            "energy": attempt(
                lambda: measure_energy(self.calls[precision], meter=open_meter(), seconds=_ENERGY_S), "J"
            ),
        }

    def _of_a_process(self, precision: Precision, where: str) -> dict[str, Figure]:
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
        state = folder.read_state(self.cell, NEEDED[precision])
        if state is None or state.failed:
            self.reasons[precision] = "it was not made" if state is None else str(state.failed)
            return
        try:
            bundle = open_bundle(folder.bundle(self.cell, precision), threads=self.plan.threads)
        except GossamerError as error:
            self.reasons[precision] = str(error)
            return
        self.bundles[precision] = bundle
        self.calls[precision] = lambda: bundle.predict(self.images)


def _take_turns(calls: dict[tuple[Kind, Precision], Callable[[], object]]) -> dict[tuple[Kind, Precision], Latency]:
    """Time all calls in turn, in 5 to 15 rounds or more, by how long a round takes."""
    named = {f"{precision} {key_of(kind)}": call for (kind, precision), call in calls.items()}
    first = time_together(named, seconds=0.0, min_rounds=1)
    round_s = sum(latency.p50_ms for latency in first.values()) / 1e3
    rounds = int(np.clip(_ROUND_S / max(round_s, 1e-6), 5, 15))
    found = time_together(named, seconds=max(3.0, 0.5 * len(named)), min_rounds=rounds)
    return {key: found[name] for key, name in zip(calls, named, strict=True)}


def _is_trained(folder: CompareFolder, plan: ComparePlan, kind: Kind) -> bool:
    state = folder.read_state(Cell(kind=kind, seed=plan.seeds[0]), "train")
    return state is not None and state.failed is None


if __name__ == "__main__":
    measure_group(CompareFolder(Path(sys.argv[1])), int(sys.argv[2]))
