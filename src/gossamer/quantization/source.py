"""Bundles before and after quantization: the float32 source with its data, and the int8 bundle that is written."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gossamer import __version__
from gossamer.checkpoint import load_model
from gossamer.data import Dataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.export_onnx import export_onnx
from gossamer.exporting.write import complete_bundle, write_bundle
from gossamer.files import new_folder, read_bytes, replace_nonfinite, write_bytes
from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.bundle_files import is_bundle
from gossamer.inference.manifest import MODEL, Manifest
from gossamer.inference.tasks import bundle_predictor
from gossamer.nn.attention.sequence_norm import SequenceNormConfig
from gossamer.nn.models import Network
from gossamer.progress import SILENT, Progress
from gossamer.quantization.outcome import QuantizationOutcome
from gossamer.quantization.tasks import choose_metric
from gossamer.training.run_folder import RunFolder


@dataclass(frozen=True)
class QuantizationSource:
    """A float32 network that will be quantized.

    Attributes:
        bundle: Open bundle of the network.
        float32: Content of its ONNX file.
        quantizable: Content of an ONNX file of the same function whose projections are products with weights.
        dataset: Data set that the network was trained on.
    """

    bundle: Bundle
    float32: bytes
    quantizable: bytes
    dataset: Dataset


@contextmanager
def open_quantization_source(
    path: Path,
    data: Path | None,
    threads: int,
    *,
    licence_weights: str | None = None,
    licence_data: str | None = None,
    metric: str | None = None,
    progress: Progress = SILENT,
) -> Iterator[QuantizationSource]:
    """Yield a bundle with its data, or a run that is exported into a temporary folder.

    Args:
        path: Folder of the run or of the bundle.
        data: Folder of the training data (default: the folder in the config of a run; required for a bundle).
        threads: Number of CPU threads.
        licence_weights: Licence of the weights of a run.
        licence_data: Licence of the training data of a run.
        metric: Metric whose degradation is limited; checked before any work.
        progress: Receiver of messages and progress.

    Raises:
        GossamerError: ``E-CONFIG`` for a bundle without data or a metric of another task, ``E-UNSUPPORTED`` for a
            bundle that is in int8 already, ``E-INTEGRITY`` for data that differ from the training data, and the errors
            of exporting and reading.
    """
    if is_bundle(path):
        if data is None:
            problem = f"is required: the bundle {path} has no images, and calibration needs its training split"
            raise GossamerError(ErrorCode.CONFIG, "data", problem, "set it to the training data, or quantize the run")
        bundle = open_bundle(path, threads=threads)
        if bundle.manifest.precision != "float32":
            problem = f"is in {bundle.manifest.precision} already"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, "quantize the run, or its float32 bundle")
        choose_metric(bundle.manifest.task, metric)
        model = read_bytes(path / MODEL)
        progress.show_message("reading the training data")
        yield QuantizationSource(bundle, model, model, _open_training_data(bundle, data))
        return
    run = RunFolder(path).read_config()
    choose_metric(run.task, metric)
    data = data or Path(run.data)
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        exported = Path(folder) / "float32"
        with _name_export_errors():
            write_bundle(
                path,
                exported,
                licence_weights=licence_weights,
                licence_data=licence_data,
                data=data,
                threads=threads,
                progress=progress,
            )
        bundle = open_bundle(exported, threads=threads)
        model = quantizable = read_bytes(exported / MODEL)
        if (other := make_weights_constant(load_model(path))) is not None:
            progress.show_message("exporting the network again with constant weights, about a minute")
            with _name_export_errors():
                quantizable = export_onnx(other)
        progress.show_message("reading the training data")
        yield QuantizationSource(bundle, model, quantizable, _open_training_data(bundle, data))


def write_quantized_bundle(
    out: Path, source: QuantizationSource, outcome: QuantizationOutcome, *, progress: Progress = SILENT
) -> Manifest:
    """Write the bundle of an int8 network and return its manifest. Nothing remains of a bundle that fails.

    Args:
        out: Folder of the bundle, new or empty.
        source: The network in float32.
        outcome: Outcome of its quantization, with a chosen network.
        progress: Receiver of messages.

    Raises:
        GossamerError: ``E-OUTPUT`` or ``E-NOSPACE`` if it cannot be written.
    """
    assert outcome.chosen is not None
    with new_folder(out) as made:
        write_bytes(made / MODEL, outcome.chosen.candidate.model)
        manifest = dataclasses.replace(
            source.bundle.manifest,
            gossamer=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            precision="int8",
            quality=replace_nonfinite(outcome.chosen.quality),
            quantization=replace_nonfinite(outcome.manifest_record()),
            parity=None,
            cost={name: figure for name, figure in source.bundle.manifest.cost.items() if name == "macs"},
            members={},
        )
        return complete_bundle(
            made,
            manifest,
            reference=bundle_predictor(source.bundle),
            dataset=source.dataset,
            threads=source.bundle.threads,
            strict=False,
            progress=progress,
        )


def make_weights_constant(network: Network) -> Network | None:
    """Return the network with an order of evaluation whose projections have constant weights; None if it has one.

    Sequence normalization may fold the statistics of an image into its weights, which are then not constant. The order
    ``folded`` projects first, with the same weights and the same result.

    Args:
        network: Network in evaluation.
    """
    attention = network.config.attention
    if not isinstance(attention, SequenceNormConfig) or attention.evaluation == "folded":
        return None
    folded = dataclasses.replace(attention, evaluation="folded")
    other = dataclasses.replace(network.config, attention=folded).build()  # type: ignore[call-arg]
    other.load_state_dict(network.state_dict())
    return other.eval()


@contextmanager
def _name_export_errors() -> Iterator[None]:
    """Say in the errors of the block that the export failed, which a caller of quantize did not request."""
    try:
        yield
    except GossamerError as error:
        problem = f"the export that precedes the quantization of a run failed: {error.problem}"
        raise GossamerError(error.code, error.where, problem, error.remedy) from error


def _open_training_data(bundle: Bundle, data: Path) -> Dataset:
    """Return the data set if its fingerprint is that of the training data in the manifest."""
    source = bundle.manifest.source
    dataset = open_dataset(data, seed=source.get("seed", 0), task=bundle.manifest.task)
    if dataset.fingerprint() != source.get("fingerprint"):
        problem = f"samples, labels or splits differ from those of {source.get('name', 'the training data')}"
        raise GossamerError(ErrorCode.INTEGRITY, str(data), problem, "set data to the training data")
    dataset.require_faultless()
    return dataset
