"""From a run folder to a bundle: graph, manifest, parity check, cost and model card, all of it or nothing."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gossamer import __version__
from gossamer.checkpoint import load_model
from gossamer.data import Dataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.card import render_card
from gossamer.exporting.export_onnx import export_onnx, is_dynamic
from gossamer.exporting.parity import choose_parity_samples, measure_parity
from gossamer.exporting.tasks import EXPORT_TASKS
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
from gossamer.inference.manifest import CARD, MANIFEST, MODEL, Manifest, Member, OutputSpec
from gossamer.inference.predictor import Predictor
from gossamer.inference.tasks import bundle_predictor
from gossamer.nn.models import Network
from gossamer.profiling.bundle import bundle_machine, measure_bundle
from gossamer.profiling.figure import Figure, costs_to_json
from gossamer.progress import SILENT, Progress
from gossamer.training.run_folder import RunConfig, RunFolder
from gossamer.training.run_predictor import make_run_predictor


def write_bundle(
    run: Path,
    out: Path,
    *,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    data: Path | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Manifest:
    """Write a run as a bundle and return its manifest. Nothing remains of a bundle that fails.

    Args:
        run: Folder of a finished run.
        out: Folder of the bundle, new or empty.
        licence_weights: Licence of the weights, for the model card.
        licence_data: Licence of the training data, for the model card.
        data: Current folder of the training data (default: the folder in the config of the run).
        threads: Number of CPU threads for the parity check and the cost (default: that of torch).
        progress: Receiver of messages and progress.

    Raises:
        GossamerError: ``E-MISSING`` if ``run`` is not a run or not finished, ``E-OUTPUT`` or ``E-NOSPACE`` if the
            bundle cannot be written, ``E-UNSUPPORTED`` if the network cannot be exported, ``E-INTEGRITY`` if the data
            are not those of the run, or the bundle does not give the results of the run.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    summary = _read_summary(folder)
    dataset = _open_training_data(config, data)
    network, thresholds = load_model(run), folder.read_thresholds(config)
    with new_folder(out) as made:
        progress.show_message("exporting the network, about a minute")
        model = export_onnx(network)
        write_bytes(made / MODEL, model)
        manifest = _draft_manifest(config, summary, thresholds, dynamic=is_dynamic(model))
        manifest = dataclasses.replace(
            manifest,
            licence={"weights": licence_weights, "data": licence_data},
            cost={"macs": _macs_figure(network, manifest.input.window).to_json()},
        )
        return complete_bundle(
            made,
            manifest,
            reference=make_run_predictor(network, config, thresholds, run),
            dataset=dataset,
            threads=threads or torch.get_num_threads(),
            progress=progress,
        )


def complete_bundle(
    folder: Path,
    manifest: Manifest,
    *,
    reference: Predictor,
    dataset: Dataset,
    threads: int | None,
    strict: bool = True,
    progress: Progress = SILENT,
) -> Manifest:
    """Add parity, cost, model card and manifest to a folder that has the graph, and return the manifest.

    Args:
        folder: Folder of a bundle that is being made, with ``model.onnx``.
        manifest: Everything except members, parity and measured cost.
        reference: Predictor that the bundle is compared with.
        dataset: Data set whose validation split is used for the comparison.
        threads: Number of CPU threads; None to let the engine choose.
        strict: Whether a difference from ``reference`` is an error rather than only measured.
        progress: Receiver of messages and progress.

    Raises:
        GossamerError: ``E-INTEGRITY`` if the bundle does not give the results of ``reference``.
    """
    samples = choose_parity_samples(dataset)
    write_card_and_manifest(folder, manifest)
    bundle = open_bundle(folder, threads=threads)
    progress.show_message(f"comparing the bundle with the network on {len(samples)} images of the validation split")
    with progress.track_steps("comparing") as update:
        parity = measure_parity(
            reference, bundle_predictor(bundle), dataset, samples, strict=strict, on_progress=update
        )
    progress.show_message("measuring the cost of the bundle")
    cost = {**costs_to_json(measure_bundle(bundle)), "machine": bundle_machine()}
    manifest = write_card_and_manifest(folder, dataclasses.replace(manifest, parity=parity, cost=cost))
    open_bundle(folder, threads=1)
    return manifest


def write_card_and_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the model card and the manifest, and return the manifest with its members.

    Args:
        folder: Folder of a bundle that is being made, with ``model.onnx``.
        manifest: Everything except the members.
    """
    write_text(folder / CARD, render_card(manifest))
    members = {path.name: _describe_member(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = dataclasses.replace(manifest, members=members)
    write_json(folder / MANIFEST, manifest.to_json())
    return manifest


def _describe_member(path: Path) -> Member:
    data = read_bytes(path)
    return Member(bytes=len(data), sha256=sha256_hexdigest(data))


def _draft_manifest(
    run: RunConfig, summary: dict[str, Any], thresholds: Thresholds | None, *, dynamic: bool
) -> Manifest:
    """Return the manifest of a run without the parts that only the finished bundle can tell."""
    attention = run.model.attention
    stored = next((step.stored for step in run.preprocessing.steps if getattr(step, "stored", None)), None)
    return Manifest(
        gossamer=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=run.task,
        preset=run.preset,
        attention=None if attention is None else attention.name,
        input=EXPORT_TASKS[run.task].make_input_spec(run, dynamic=dynamic, stored=stored),
        output=OutputSpec(
            classes=run.classes,
            multi_label=run.multi_label,
            thresholds=None if thresholds is None else thresholds.to_json(),
        ),
        preprocessing=run.preprocessing.to_json(),
        layout=run.layout,
        quality=_read_quality(summary),
        source=_describe_source(run, summary),
    )


def _macs_figure(network: Network, window: tuple[int, int]) -> Figure:
    how = f"one window of {window[0]}x{window[1]}, closed form of the network's equations"
    return Figure(network.cost(window).macs, "MACs", "computed", how)


def _read_quality(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a summary, each with that of the trivial baseline."""
    trivial = summary.get("trivial", {})
    return replace_nonfinite({key: {**found, "trivial": trivial.get(key)} for key, found in summary["metrics"].items()})


def _describe_source(run: RunConfig, summary: dict[str, Any]) -> dict[str, Any]:
    kept = ("groups", "distance_unit")
    return {
        "name": Path(run.data).name,
        "fingerprint": run.data_fingerprint,
        "samples": summary.get("splits", {}),
        "seed": run.seed,
        "evaluated": summary["split"],
        **{key: summary[key] for key in kept if key in summary},
    }


def _open_training_data(run: RunConfig, data: Path | None) -> Dataset:
    """Return the data set of a run, if samples, labels and splits are unchanged."""
    where, name = str(data or run.data), Path(run.data).name
    if not Path(where).exists():
        problem = "the training data are not there, and the parity check needs their validation split"
        raise GossamerError(ErrorCode.MISSING, where, problem, "set data to the current folder of the training data")
    dataset = open_dataset(where, seed=run.seed, task=run.task)
    if (fingerprint := dataset.fingerprint()) != run.data_fingerprint:
        problem = (
            f"samples, labels or splits have the fingerprint {fingerprint[:12]}, but those of {name!r}, which the run "
            f"was trained on, have {run.data_fingerprint[:12]}: these are not the run's data"
        )
        remedy = f"set data to an unchanged copy of {name!r}"
        remedy += ", or restore the data" if data is None else ", or export a run that was trained on this data"
        raise GossamerError(ErrorCode.INTEGRITY, where, problem, remedy)
    return dataset


def _read_summary(folder: RunFolder) -> dict[str, Any]:
    if not folder.summary.is_file():
        problem = "summary.json is missing: the run is not finished"
        remedy = f"finish it: gossamer train --resume {folder.path}"
        raise GossamerError(ErrorCode.MISSING, folder.path, problem, remedy)
    summary = read_json(folder.summary)
    if not isinstance(summary, dict) or not {"metrics", "split"} <= summary.keys():
        problem = "metrics, or the split that they were measured on, are missing"
        raise GossamerError(ErrorCode.FORMAT, folder.summary, problem, "restore the file from a backup")
    return summary
