"""Weights that training starts from in place of fresh ones: those of a run, or imported ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gossamer.checkpoint import WEIGHTS, load_model
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes, read_json, sha256_hexdigest
from gossamer.inference.bundle_files import is_bundle
from gossamer.nn.models import Network
from gossamer.nn.transfer import Query, WeightTransfer, transfer_weights
from gossamer.training.run_folder import InitialWeightsSource, RunFolder


@dataclass(frozen=True)
class InitialWeights:
    """A trained network to start from.

    Attributes:
        network: Network with its weights.
        preset: Name of the preset that the network was made from.
        source: Folder and digest of the weights, for the run's config.
    """

    network: Network
    preset: str
    source: InitialWeightsSource

    def transfer_to(self, network: Network) -> WeightTransfer:
        """Copy into ``network`` every weight that it can take over, and return what was done.

        Raises:
            GossamerError: ``E-VALUE`` or ``E-CONFIG`` if the weights do not fit.
        """
        return transfer_weights(self.network, network, self.source.query)


def read_initial(folder: Path, query: Query = "key") -> InitialWeights:
    """Return the network of a run folder, or of a folder that ``gossamer import-weights`` wrote.

    Args:
        folder: Folder with ``model.safetensors`` and ``config.json``.
        query: Source of the queries for a mechanism that has none, as in ``convert_attention``.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for a bundle; the folder cannot be read.
    """
    if is_bundle(folder):
        problem = "is a bundle, whose graph has no weights that can be trained"
        raise GossamerError(ErrorCode.UNSUPPORTED, folder, problem, "name the run that it was exported from")
    network = load_model(folder)
    run, report = RunFolder(folder), folder / "import.json"
    if run.config.is_file():
        preset = run.read_config().preset
    else:
        preset = str(read_json(report).get("model")) if report.is_file() else network.config.name
    digest = sha256_hexdigest(read_bytes(folder / WEIGHTS))
    return InitialWeights(network, preset, InitialWeightsSource(str(folder), digest, query))


def reload_initial(source: InitialWeightsSource) -> InitialWeights:
    """Return the weights that a run was planned with.

    Raises:
        GossamerError: ``E-INTEGRITY`` if the folder now holds other weights.
    """
    initial = read_initial(Path(source.path), source.query)
    if initial.source.sha256 != source.sha256:
        problem = "the weights have changed since the run was planned"
        raise GossamerError(ErrorCode.INTEGRITY, source.path, problem, "restore them, or start a new run")
    return initial
