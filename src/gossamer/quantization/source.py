"""What is quantized: a run or a bundle in floating point, with the data that it was trained on."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gossamer.checkpoint import load_model
from gossamer.data import open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.exporting.export_onnx import export_onnx
from gossamer.exporting.write import write_bundle
from gossamer.files import read_bytes
from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.bundle_files import is_bundle
from gossamer.inference.manifest import MODEL
from gossamer.nn.attention.sequence_norm import SequenceNormConfig
from gossamer.nn.models import Network
from gossamer.quantization.accuracy_loss import choose_metric
from gossamer.quantization.calibrate import Dataset
from gossamer.training.run_folder import RunFolder


@dataclass(frozen=True)
class QuantizationSource:
    """A network in floating point that is to be quantized.

    Attributes:
        bundle: of it.
        float32: content of its ONNX file.
        quantizable: a graph of the same function whose projections are products with weights.
        dataset: that it was trained on.
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
    on_stage: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[QuantizationSource]:
    """Yield a run, exported into a folder that is removed afterwards, or a bundle, with its data.

    Args:
        path: of the run or the bundle.
        data: where the training data lie; a run knows where it found them, a bundle does not.
        threads: of the processor.
        licence_weights: of a run: under which the weights may be used.
        licence_data: of a run: under which the training data may be used.
        metric: that may drop, which is refused before any work where it is none of the task.
        on_stage: told what is being done.
        on_progress: called with the number of images compared, and their total.

    Raises:
        GossamerError: ``E-CONFIG`` for a bundle without data and for such a metric, ``E-UNSUPPORTED`` for one that is
            in 8 bits already, ``E-INTEGRITY`` for data that are not those of the training, and what exporting, which
            is named, and reading raise.
    """
    if is_bundle(path):
        if data is None:
            problem = "is missing: a bundle holds no images, and calibration wants those of its training split"
            raise GossamerError(ErrorCode.CONFIG, "--data", problem, "give --data DATA, or quantize the run")
        bundle = open_bundle(path, threads=threads)
        if bundle.manifest.precision != "float32":
            problem = f"is in {bundle.manifest.precision} already"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, "quantize the run, or its bundle in float32")
        choose_metric(bundle.manifest.task, metric)
        model = read_bytes(path / MODEL)
        on_stage("reading the data of the training")
        yield QuantizationSource(bundle, model, model, _trained_on(bundle, data))
        return
    described = RunFolder(path).read_config()
    choose_metric(described.task, metric)
    data = data or Path(described.data)
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        exported = Path(folder) / "float32"
        with _exporting():
            write_bundle(
                path,
                exported,
                licence_weights=licence_weights,
                licence_data=licence_data,
                data=data,
                threads=threads,
                on_stage=on_stage,
                on_progress=on_progress,
            )
        bundle = open_bundle(exported, threads=threads)
        model = quantizable = read_bytes(exported / MODEL)
        if (other := make_weights_constant(load_model(path))) is not None:
            on_stage("exporting the network again in an order whose weights are constants, about a minute")
            with _exporting():
                quantizable = export_onnx(other)
        on_stage("reading the data of the training")
        yield QuantizationSource(bundle, model, quantizable, _trained_on(bundle, data))


@contextmanager
def _exporting() -> Iterator[None]:
    """Let an error of the block say that it is one of exporting: who quantizes a run has not asked for a bundle."""
    try:
        yield
    except GossamerError as error:
        problem = f"the export that quantizing a run begins with failed: {error.problem}"
        raise GossamerError(error.code, error.where, problem, error.remedy) from error


def make_weights_constant(network: Network) -> Network | None:
    """Return the network in an order of evaluation whose projections are products with weights; None if it is in one.

    Sequence normalization may fold the statistics of an image into its weights, which are then no constants. The order
    ``folded`` projects first and has the same weights and the same result.
    """
    attention = network.config.attention
    if not isinstance(attention, SequenceNormConfig) or attention.evaluation == "folded":
        return None
    folded = dataclasses.replace(attention, evaluation="folded")
    other = dataclasses.replace(network.config, attention=folded).build()  # type: ignore[call-arg]
    other.load_state_dict(network.state_dict())
    return other.eval()


def _trained_on(bundle: Bundle, data: Path) -> Dataset:
    """Return the data set, if it is the one that the manifest names by its fingerprint."""
    source = bundle.manifest.source
    dataset = open_dataset(data, seed=source.get("seed", 0), task=bundle.manifest.task)
    if dataset.fingerprint() != source.get("fingerprint"):
        problem = f"samples, labels or splits are not those of {source.get('name', 'the training')}"
        raise GossamerError(ErrorCode.INTEGRITY, str(data), problem, "name the data of the training with --data")
    dataset.require_faultless()
    return dataset
