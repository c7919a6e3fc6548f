"""The run folder: what was trained on what, and everything that came of it.

===================  ===========================================================================
``config.yaml``      every choice, fully resolved
``env.json``         the machine and the versions
``metrics.csv``      one row an epoch
``progress.png``     the same, drawn
``model.safetensors`` and ``config.json``   the best weights so far, and their network
``last.ckpt``        the state to resume from
``thresholds.json``  above which probability each label counts, of several labels or two classes
``summary.json``     the evaluation and the cost
``predictions.csv``  one row a test image, of classification
``cases.csv``        one row a test case and class, of segmentation
``report.html``      all of it to read
===================  ===========================================================================
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from gossamer import __version__, config
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError, from_os_error
from gossamer.files import read_bytes, read_json, require_place, write_json, write_text
from gossamer.inference.decisions import Thresholds, thresholded_classes
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.models import NetworkConfig, config_from_json
from gossamer.task import TaskName
from gossamer.training.recipe import Recipe


@dataclass(frozen=True)
class InitialWeightsSource:
    """Weights that a run started from.

    Attributes:
        path: their folder.
        sha256: of their file.
        query: what took the place of queries in a mechanism without: the ``key`` projection, or the ``mean`` of both.
    """

    path: str
    sha256: str
    query: Literal["key", "mean"] = "key"


@dataclass(frozen=True)
class RunConfig:
    """What a run depends on. With the same data and versions, an equal config gives equal weights.

    Attributes:
        data: path of the data set.
        layout: its layout.
        data_fingerprint: SHA-256 of its samples, labels and splits.
        classes: class names, in the order of the logits; of segmentation, without the background.
        multi_label: whether an image, or in segmentation a pixel, may have any number of classes.
        seed: of the splits that the data leave open, of the weights, the order and the augmentation.
        preset: name that the network was made from.
        model: the network.
        preprocessing: the steps from stored values to the network's input.
        recipe: how it is trained.
        monitor: validation metric that chooses the best epoch.
        task: ``classify`` or ``segment``.
        inference: of segmentation, how the network comes to a whole image.
        init: weights that training started from; None for fresh ones.
    """

    data: str
    layout: str
    data_fingerprint: str
    classes: tuple[str, ...]
    multi_label: bool
    seed: int
    preset: str
    model: NetworkConfig
    preprocessing: Preprocessing
    recipe: Recipe
    monitor: str
    task: TaskName = "classify"
    inference: SlidingWindow | None = None
    init: InitialWeightsSource | None = None

    @property
    def title(self) -> str:
        """Preset and mechanism, as a reader calls the network."""
        attention = self.model.attention
        return self.preset if attention is None else f"{self.preset} with {attention.name}"

    def to_yaml(self) -> str:
        """Return the config as YAML text."""
        values = config.to_json(self) | {"preprocessing": self.preprocessing.to_json()}
        return yaml.safe_dump({"gossamer": __version__, **values}, sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def from_yaml(cls, text: str, path: Path) -> RunConfig:
        """Return the config that ``to_yaml`` wrote.

        Raises:
            GossamerError: ``E-CONFIG``, where it is not such a config.
        """
        where = str(path)
        values = _parse_yaml(text, where)
        values.pop("gossamer", None)
        for key in ("model", "preprocessing"):
            if key not in values:
                raise GossamerError(ErrorCode.CONFIG, where, f"has no key {key!r}", "use a config.yaml of a run")
        values["model"] = config_from_json(values["model"], f"{where}: model", opened_folder=path.parent)
        values["preprocessing"] = Preprocessing.from_json(values["preprocessing"], where)
        values["recipe"] = config.from_json(Recipe, values.get("recipe"), f"{where}: recipe")
        return config.from_json(cls, values, where)


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """Every choice, as YAML."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The state to resume from."""
        return self.path / "last.ckpt"

    @property
    def summary(self) -> Path:
        """The evaluation and the cost."""
        return self.path / "summary.json"

    @property
    def progress(self) -> Path:
        """The learning curves, redrawn each epoch."""
        return self.path / "progress.png"

    @property
    def report(self) -> Path:
        """The page to read."""
        return self.path / "report.html"

    @property
    def thresholds(self) -> Path:
        """Above which probability each label counts, of several labels or two classes."""
        return self.path / "thresholds.json"

    @property
    def predictions(self) -> Path:
        """One row a test image, of classification."""
        return self.path / "predictions.csv"

    @property
    def cases(self) -> Path:
        """One row a test case and class, of segmentation."""
        return self.path / "cases.csv"

    @property
    def history(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    def require_absent(self) -> None:
        """Raise unless the folder can be made.

        Raises:
            GossamerError: ``E-OUTPUT`` when it exists and is not empty, or a file is in the way.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            remedy = f"continue it with --resume {self.path}, or give another --out"
            raise GossamerError(ErrorCode.OUTPUT, self.path, "exists already", remedy)
        require_place(self.path, parents=True)

    def create(self) -> None:
        """Make the folder.

        Raises:
            GossamerError: ``E-OUTPUT`` when it exists and is not empty, or cannot be made.
        """
        self.require_absent()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, self.path) from error

    def read_config(self) -> RunConfig:
        """Return the config of the run.

        Raises:
            GossamerError: ``E-MISSING`` when this is not a run folder.
        """
        if not self.config.is_file():
            problem = "is not a run folder: it has no config.yaml" if self.path.exists() else "there is no such folder"
            raise GossamerError(ErrorCode.MISSING, self.path, problem, "name a folder that gossamer train wrote")
        return RunConfig.from_yaml(read_bytes(self.config).decode(), self.config)

    def read_threads(self) -> int | None:
        """Return how many threads the run was started with: another number rounds otherwise."""
        environment = self.path / "env.json"
        return read_json(environment).get("threads") if environment.is_file() else None

    def read_thresholds(self, run: RunConfig) -> Thresholds | None:
        """Return the thresholds of the run's labels; None where it has none, or has not come to its end.

        Raises:
            GossamerError: ``E-FORMAT``, ``E-CONFIG`` or ``E-VALUE`` where the file holds no thresholds, or not its own.
        """
        labels = thresholded_classes(run.classes, multi_label=run.multi_label)
        if not labels or not self.thresholds.is_file():
            return None
        return Thresholds.from_json(read_json(self.thresholds), str(self.thresholds), labels)

    def write_config(self, run: RunConfig, environment: dict[str, Any]) -> None:
        """Write ``config.yaml`` and ``env.json``."""
        write_text(self.config, run.to_yaml())
        write_json(self.path / "env.json", environment)

    def write_history(self, history: Sequence[dict[str, float]]) -> None:
        """Write ``metrics.csv``."""
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in history)
        write_text(self.history, table.getvalue())


def read_base_config(path: Path) -> RunConfig:
    """Return the config that a run starts from.

    Args:
        path: ``config.yaml`` of another run, or its folder.

    Raises:
        GossamerError: ``E-MISSING`` or ``E-CONFIG``.
    """
    file = RunFolder(path).config if path.is_dir() else path
    try:
        text = read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise GossamerError(ErrorCode.CONFIG, file, "is not text", "use the config.yaml of a run") from error
    return RunConfig.from_yaml(text, file)


def _parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Return plain YAML; tags, anchors and aliases have no place in a config."""
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
                raise GossamerError(ErrorCode.CONFIG, where, "holds a YAML tag, anchor or alias", "write plain values")
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise GossamerError(ErrorCode.CONFIG, where, f"is not YAML ({error})", "correct the text") from error
    if not isinstance(values, dict):
        raise GossamerError(ErrorCode.CONFIG, where, "is not a mapping", "use a config.yaml of a run")
    return values
