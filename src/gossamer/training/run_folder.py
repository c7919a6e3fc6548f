"""The run folder: config, weights and results of a training.

===================  ===========================================================================
``config.yaml``      every choice, fully resolved
``env.json``         the machine and the versions of packages
``metrics.csv``      one row for each epoch
``progress.png``     the learning curves
``model.safetensors`` and ``config.json``   the best weights so far, and their network
``last.ckpt``        the state to resume from
``thresholds.json``  decision threshold of each label (several labels, or two classes)
``summary.json``     the evaluation and the cost
``predictions.csv``  one row for each test image, in classification
``cases.csv``        one row for each test case and class, in segmentation
``report.html``      the report
===================  ===========================================================================
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gossamer import __version__, config
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError, from_os_error
from gossamer.files import read_bytes, read_json, require_place, write_json, write_text
from gossamer.inference.decisions import Thresholds, thresholded_classes
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.models import NetworkConfig, config_from_json
from gossamer.nn.transfer import Query
from gossamer.task import TaskName
from gossamer.training.recipe import Recipe


@dataclass(frozen=True)
class InitialWeightsSource:
    """Weights that a run started from.

    Attributes:
        path: Folder of the weights.
        sha256: SHA-256 of the file of the weights.
        query: Source of the queries in a mechanism without queries: the ``key`` projection, or the ``mean`` of query
            and key projection.
    """

    path: str
    sha256: str
    query: Query = "key"


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on. With the same data and versions, an equal config gives equal weights.

    Attributes:
        data: Path of the data set.
        layout: Layout of the data set.
        data_fingerprint: SHA-256 of samples, labels and splits.
        classes: Class names in the order of the logits; in segmentation, without the background.
        multi_label: Whether an image, or in segmentation a pixel, may have any number of classes.
        seed: Seed of splits that the data does not define, of initial weights, order and augmentation.
        preset: Name of the preset that the network was made from.
        model: Config of the network.
        preprocessing: Steps from stored values to the network's input.
        recipe: Recipe of training.
        monitor: Validation metric that chooses the best epoch.
        task: ``classify`` or ``segment``.
        inference: Windows through which a segmentation network sees an image; None in classification.
        init: Weights that training started from; None for fresh ones.
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
        """Preset and mechanism in words, for example ``vit_tiny with softmax``."""
        attention = self.model.attention
        return self.preset if attention is None else f"{self.preset} with {attention.name}"

    @property
    def windows(self) -> SlidingWindow:
        """Windows through which a segmentation network sees an image."""
        assert self.inference is not None, "only segmentation sees images through windows"
        return self.inference

    def to_yaml(self) -> str:
        """Return the config as YAML text."""
        values = config.to_json(self) | {"preprocessing": self.preprocessing.to_json()}
        return yaml.safe_dump({"gossamer": __version__, **values}, sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def from_yaml(cls, text: str, path: Path) -> RunConfig:
        """Return the config that ``to_yaml`` wrote.

        Raises:
            GossamerError: ``E-CONFIG`` if the text is not such a config.
        """
        where = str(path)
        values = _parse_yaml(text, where)
        values.pop("gossamer", None)
        for key in ("model", "preprocessing"):
            if key not in values:
                raise GossamerError(ErrorCode.CONFIG, where, f"key {key!r} is missing", "use the config.yaml of a run")
        values["model"] = config_from_json(values["model"], f"{where}: model", opened_folder=path.parent)
        values["preprocessing"] = Preprocessing.from_json(values["preprocessing"], where)
        values["recipe"] = config.from_json(Recipe, values.get("recipe"), f"{where}: recipe")
        return config.from_json(cls, values, where)


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Attributes:
        path: Folder of the run.
    """

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
        """The HTML page of the run."""
        return self.path / "report.html"

    @property
    def thresholds(self) -> Path:
        """Decision threshold of each label, for several labels or two classes."""
        return self.path / "thresholds.json"

    @property
    def predictions(self) -> Path:
        """One row for each test image, in classification."""
        return self.path / "predictions.csv"

    @property
    def cases(self) -> Path:
        """One row for each test case and class, in segmentation."""
        return self.path / "cases.csv"

    @property
    def history(self) -> Path:
        """One row for each epoch."""
        return self.path / "metrics.csv"

    def require_absent(self) -> None:
        """Raise unless the folder can be created.

        Raises:
            GossamerError: ``E-OUTPUT`` if it exists and is not empty, or a file is in the way.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            remedy = f"resume it with gossamer train --resume {self.path}, or choose another folder"
            raise GossamerError(ErrorCode.OUTPUT, self.path, "exists already", remedy)
        require_place(self.path, parents=True)

    def create(self) -> None:
        """Create the folder.

        Raises:
            GossamerError: ``E-OUTPUT`` if it exists and is not empty, or cannot be created.
        """
        self.require_absent()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, self.path) from error

    def read_config(self) -> RunConfig:
        """Return the config of the run.

        Raises:
            GossamerError: ``E-MISSING`` if this is not a run folder, ``E-CONFIG`` if its config is damaged.
        """
        if not self.config.is_file():
            problem = "is not a run folder: config.yaml is missing" if self.path.exists() else "there is no such folder"
            raise GossamerError(ErrorCode.MISSING, self.path, problem, "name a folder written by gossamer train")
        return RunConfig.from_yaml(read_bytes(self.config).decode(), self.config)

    def read_threads(self) -> int | None:
        """Return the number of threads that the run was started with: another number rounds differently."""
        environment = self.path / "env.json"
        return read_json(environment).get("threads") if environment.is_file() else None

    def read_thresholds(self, run: RunConfig) -> Thresholds | None:
        """Return the thresholds of the run's labels; None if there are none, or the run is not finished.

        Raises:
            GossamerError: ``E-FORMAT``, ``E-CONFIG`` or ``E-VALUE`` if the file is damaged or belongs to another run.
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
    """Return the mapping of plain YAML; tags, anchors and aliases are refused."""
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
                raise GossamerError(ErrorCode.CONFIG, where, "contains a YAML tag, anchor or alias", "use plain values")
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise GossamerError(ErrorCode.CONFIG, where, f"is not valid YAML ({error})", "correct the text") from error
    if not isinstance(values, dict):
        raise GossamerError(ErrorCode.CONFIG, where, "is not a mapping", "use the config.yaml of a run")
    return values
