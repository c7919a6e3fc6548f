"""From a run folder to a bundle: the graph, the manifest, the proof, the cost and the card, all or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gossamer import __version__
from gossamer.checkpoint import load_model
from gossamer.data import open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.card import render_card
from gossamer.exporting.export_onnx import export_onnx, is_dynamic
from gossamer.exporting.parity import bundle_pipeline, measure_parity, parity_samples, trained_pipeline
from gossamer.files import (
    new_folder,
    read_bytes,
    read_json,
    replace_nonfinite,
    sha256_hexdigest,
    write_bytes,
    write_json,
    write_text,
)
from gossamer.inference.bundle import open_bundle
from gossamer.inference.decisions import Thresholds
from gossamer.inference.manifest import CARD, MANIFEST, MODEL, InputSpec, Manifest, Member, OutputSpec
from gossamer.nn.models import Network, NetworkConfig
from gossamer.profiling.bundle import machine_of_bundles, measure_bundle
from gossamer.profiling.figure import Figure
from gossamer.training.run_folder import RunConfig, RunFolder

Report = Callable[[str], None]


def write_bundle(
    run: Path,
    out: Path,
    *,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    data: Path | None = None,
    threads: int | None = None,
    on_stage: Report = lambda text: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Write a run as a bundle and return its manifest. Nothing is left of a bundle that fails.

    Args:
        run: folder of a run that has come to its end.
        out: folder of the bundle; it does not exist, or is empty.
        licence_weights: under which the weights may be used.
        licence_data: under which the training data may be used.
        data: where the training data lie now; where the run found them if left out.
        threads: of the processor, for the proof and the cost.
        on_stage: told what is being done.
        on_progress: called with the number of images compared, and their total.

    Raises:
        GossamerError: ``E-MISSING`` where the run is none or has not come to its end, ``E-OUTPUT`` or ``E-NOSPACE``
            where the bundle cannot be written, ``E-UNSUPPORTED`` where the network cannot be exported, ``E-INTEGRITY``
            where the data are not those of the run, or the bundle does not answer as the run does.
    """
    folder = RunFolder(run)
    described = folder.read_config()
    summary = _read_summary(folder)
    if not Path(data or described.data).exists():
        problem = "the training data are not there, and the proof needs their validation split"
        raise GossamerError(ErrorCode.MISSING, str(data or described.data), problem, "say where they are with --data")
    dataset = open_dataset(data or described.data, seed=described.seed, task=described.task)
    if dataset.fingerprint() != described.data_fingerprint:
        raise _other_data(described, data, dataset.fingerprint())
    samples = parity_samples(dataset)
    network, thresholds = load_model(run), folder.read_thresholds(described)
    with new_folder(out) as made:
        on_stage("exporting the network, about a minute")
        model = export_onnx(network)
        write_bytes(made / MODEL, model)
        manifest = _draft(described, summary, thresholds, dynamic=is_dynamic(model))
        manifest = dataclasses.replace(
            manifest,
            licence={"weights": licence_weights, "data": licence_data},
            cost={"macs": _macs(network, manifest.input.window).to_json()},
        )
        _write_manifest(made, manifest)
        bundle = open_bundle(made, threads=threads or torch.get_num_threads())
        on_stage(f"comparing it with the run on {len(samples)} images of the validation split")
        trained = trained_pipeline(network, described, thresholds)
        parity = measure_parity(trained, bundle_pipeline(bundle), dataset, samples, on_progress=on_progress)
        on_stage("measuring its cost")
        cost = {name: figure.to_json() for name, figure in measure_bundle(bundle).items()}
        cost["machine"] = machine_of_bundles()
        manifest = write_card_and_manifest(made, dataclasses.replace(manifest, parity=parity, cost=cost))
        open_bundle(made, threads=1)
    return manifest


def write_card_and_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the card and the manifest of a folder that holds the model, and return the manifest with its members.

    Args:
        folder: of a bundle that is being made.
        manifest: everything but its members.
    """
    write_text(folder / CARD, render_card(manifest))
    return _write_manifest(folder, manifest)


def _write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    members = {path.name: _member(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = dataclasses.replace(manifest, members=members)
    write_json(folder / MANIFEST, manifest.to_json())
    return manifest


def _member(path: Path) -> Member:
    data = read_bytes(path)
    return Member(bytes=len(data), sha256=sha256_hexdigest(data))


def _draft(run: RunConfig, summary: dict[str, Any], thresholds: Thresholds | None, *, dynamic: bool) -> Manifest:
    """Return the manifest of a run, without what only the finished bundle can tell."""
    attention = run.model.attention
    return Manifest(
        gossamer=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=run.task,
        preset=run.preset,
        attention=None if attention is None else attention.name,
        input=_input_spec(run, dynamic=dynamic),
        output=OutputSpec(
            classes=run.classes,
            multi_label=run.multi_label,
            thresholds=None if thresholds is None else thresholds.to_json(),
        ),
        preprocessing=run.preprocessing.to_json(),
        layout=run.layout,
        quality=_quality(summary),
        source=_source(run, summary),
    )


def _macs(network: Network, window: tuple[int, int]) -> Figure:
    how = f"one window of {window[0]}x{window[1]}, closed form of the network's equations"
    return Figure(network.cost(window).macs, "MACs", "computed", how)


def _input_spec(run: RunConfig, *, dynamic: bool) -> InputSpec:
    stored = next((step.stored for step in run.preprocessing.steps if getattr(step, "stored", None)), None)
    model: NetworkConfig = run.model
    if run.inference is None:
        return InputSpec(
            channels=model.in_channels,
            window=model.image_size,
            dynamic=dynamic,
            multiple=model.input_requirements.multiple,
            stored=stored,
        )
    return InputSpec(
        channels=model.in_channels // run.inference.stack,
        window=run.inference.window,
        dynamic=dynamic,
        multiple=model.input_requirements.multiple,
        stack=run.inference.stack,
        overlap=run.inference.overlap,
        stored=stored,
    )


def _quality(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a summary, each beside that of the trivial answer."""
    trivial = summary.get("trivial", {})
    return replace_nonfinite({key: {**found, "trivial": trivial.get(key)} for key, found in summary["metrics"].items()})


def _source(run: RunConfig, summary: dict[str, Any]) -> dict[str, Any]:
    kept = ("groups", "distance_unit")
    return {
        "name": Path(run.data).name,
        "fingerprint": run.data_fingerprint,
        "samples": summary.get("splits", {}),
        "seed": run.seed,
        "evaluated": summary["split"],
        **{key: summary[key] for key in kept if key in summary},
    }


def _other_data(run: RunConfig, given: Path | None, fingerprint: str) -> GossamerError:
    """Return the error for data whose samples, labels or splits are not those that the run was trained with."""
    name = Path(run.data).name
    problem = (
        f"samples, labels or splits have the fingerprint {fingerprint[:12]}, and those of {name!r}, which the run was "
        f"trained on, had {run.data_fingerprint[:12]}: these are not the run's data"
    )
    changed = f"restore them as they were, or name an unchanged copy of {name!r} with --data"
    other = f"give an unchanged copy of {name!r} to --data, or export a run that was trained on these"
    where = str(given or run.data)
    return GossamerError(ErrorCode.INTEGRITY, where, problem, changed if given is None else other)


def _read_summary(folder: RunFolder) -> dict[str, Any]:
    if not folder.summary.is_file():
        problem = "has no summary.json: the run has not come to its end"
        remedy = f"go on with it: gossamer train --resume {folder.path}"
        raise GossamerError(ErrorCode.MISSING, folder.path, problem, remedy)
    summary = read_json(folder.summary)
    if not isinstance(summary, dict) or not {"metrics", "split"} <= summary.keys():
        problem = "holds no metrics, or does not say of which split"
        raise GossamerError(ErrorCode.FORMAT, folder.summary, problem, "restore the file from a copy")
    return summary
