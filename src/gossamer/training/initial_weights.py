"""Weights that training starts from, in place of fresh ones: a run's, or imported ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gossamer.checkpoint import WEIGHTS, load_model
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes, read_json, sha256_hexdigest
from gossamer.inference.bundle_files import is_bundle
from gossamer.nn.attention import AttentionConfig, attention_config
from gossamer.nn.models import Network, NetworkConfig
from gossamer.nn.transfer import Query, Transfer, has_queries, transfer_weights
from gossamer.training.run_folder import InitialWeights, RunFolder


@dataclass(frozen=True)
class Initial:
    """A trained network to start from.

    Attributes:
        network: with its weights.
        preset: name that it was made from.
        weights: where they are, for the run's config.
    """

    network: Network
    preset: str
    weights: InitialWeights

    def config(self, attention: Any = None, **changes: Any) -> NetworkConfig:
        """Return the network's config with the given values changed; None keeps the network's own.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-UNSUPPORTED``, where they do not fit it.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        if attention is not None:
            if self.network.config.attention is None:
                problem = f"{self.preset} has no attention to choose"
                raise GossamerError(ErrorCode.CONFIG, "attention", problem, "leave it out")
            given["attention"] = attention_config(attention)
        return dataclasses.replace(self.network.config, **given).fitted()

    def require_query(self, attention: AttentionConfig) -> None:
        """Raise unless ``attention`` lacks queries that the network has, so that something must take their place.

        Raises:
            GossamerError: ``E-CONFIG``, where a choice of what replaces queries would change nothing.
        """
        with torch.device("meta"):
            target = self.config(attention).build()
        if has_queries(self.network) and not has_queries(target):
            return
        own, name = self.network.config.attention, attention.name
        lacking = f"the weights' own {own.name} has none" if own and not has_queries(self.network) else None
        problem = f"says what takes the place of queries, but {lacking or f'{name} attention has its own'}"
        raise GossamerError(ErrorCode.CONFIG, "query", problem, "leave it out")

    def given_to(self, model: NetworkConfig) -> Transfer:
        """Return what a network of this config takes over.

        Raises:
            GossamerError: ``E-VALUE`` or ``E-CONFIG``, where the weights do not fit.
        """
        return transfer_weights(self.network, model.build(), self.weights.query)


def read_initial(folder: Path, query: Query = "key") -> Initial:
    """Return the network of a run folder, or of a folder that ``gossamer import-weights`` wrote.

    Args:
        folder: with ``model.safetensors`` and ``config.json``.
        query: what takes the place of queries in a mechanism without, as in ``convert_attention``.

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
    return Initial(network, preset, InitialWeights(str(folder), sha256_hexdigest(read_bytes(folder / WEIGHTS)), query))


def start_from(weights: InitialWeights, network: Network) -> None:
    """Load into ``network`` what it can take over.

    Raises:
        GossamerError: ``E-INTEGRITY``, where the weights are not those that the run was planned with.
    """
    initial = read_initial(Path(weights.path), weights.query)
    if initial.weights.sha256 != weights.sha256:
        problem = "holds other weights than when the run was planned"
        raise GossamerError(ErrorCode.INTEGRITY, weights.path, problem, "start a new run")
    transfer_weights(initial.network, network, weights.query)
