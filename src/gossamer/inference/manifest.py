"""The content of a bundle's ``manifest.json``: all that is needed to run the network, and its origin.

A bundle is a folder: ``model.onnx``, ``manifest.json`` and a ``README.md`` that is written from it. The manifest lists
every other member with its size and SHA-256; nothing else may be in the folder. Its own ``digest`` is the SHA-256 of
the rest of it, as JSON with sorted keys and no spaces: it shows that nobody edited the manifest, not who wrote it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gossamer import config
from gossamer.data.image import MAX_FRAME_PIXELS, Image
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import replace_nonfinite, sha256_hexdigest
from gossamer.inference.decisions import Thresholds, thresholded_classes
from gossamer.task import PIXEL_TASKS, TaskName

SCHEMA = 1
MANIFEST, MODEL, CARD = "manifest.json", "model.onnx", "README.md"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input of the network.

    Attributes:
        channels: Number of channels of an image, before neighbouring slices are stacked.
        window: Rows and columns that the network was trained on, and sees at once.
        dynamic: Whether other numbers of rows and columns are possible.
        multiple: Number of which rows and columns must be multiples.
        stack: Number of neighbouring slices of a volume that are channels, for segmentation.
        overlap: Smallest share of a window that neighbours have in common, for segmentation.
        stored: Type of the stored values of training images, such as ``uint8``; None for any.

    Raises:
        GossamerError: ``E-CONFIG`` for numbers outside of their range.
    """

    channels: int
    window: tuple[int, int]
    dynamic: bool
    multiple: int = 1
    stack: int = 1
    overlap: float = 0.5
    stored: str | None = None

    def __post_init__(self) -> None:
        counts = {
            "channels": self.channels,
            "rows": self.window[0],
            "columns": self.window[1],
            "multiple": self.multiple,
        }
        for name, value in counts.items():
            if value < 1:
                raise GossamerError(
                    ErrorCode.CONFIG, f"input.{name}", f"{value} is less than 1", "export the bundle again"
                )
        if math.prod(self.window) > MAX_FRAME_PIXELS:
            problem = f"{self.window[0]}x{self.window[1]} has more than {MAX_FRAME_PIXELS} pixels"
            raise GossamerError(ErrorCode.CONFIG, "input.window", problem, "export the bundle again")
        if any(side % self.multiple for side in self.window):
            problem = f"{self.window[0]}x{self.window[1]} is not a multiple of {self.multiple}"
            raise GossamerError(ErrorCode.CONFIG, "input.window", problem, "export the bundle again")

    def takes(self, sides: tuple[int, ...]) -> bool:
        """Return whether the network takes images with these numbers of rows and columns."""
        return all(side and side % self.multiple == 0 for side in sides) if self.dynamic else sides == self.window

    @property
    def sides(self) -> str:
        """Possible numbers of rows and columns, in words."""
        return f"multiples of {self.multiple}" if self.dynamic else f"{self.window[0]}x{self.window[1]}"


@dataclass(frozen=True)
class AcceptedImages(Preprocessing):
    """The preprocessing of a bundle, which refuses images that the network was not trained for.

    Attributes:
        input: Requirements of the network.
    """

    input: InputSpec

    def __call__(self, image: Image) -> Image:
        """Return ``image`` after every step.

        Raises:
            GossamerError: ``E-VALUE`` for stored values of another type, ``E-UNSUPPORTED`` for another number of
                channels, and what the steps raise.
        """
        wanted = self.input.stored
        if wanted is not None and image.array.dtype.name != wanted:
            problem = f"has {image.array.dtype.name} values, the bundle takes {wanted}"
            remedy = f"convert it to {wanted} on the same scale as the training images"
            raise GossamerError(ErrorCode.VALUE, image.source, problem, remedy)
        prepared = super().__call__(image)
        if prepared.channels != self.input.channels:
            problem = f"has {prepared.channels} channels, the bundle takes {self.input.channels}"
            raise GossamerError(ErrorCode.UNSUPPORTED, image.source, problem, "convert the image, or train with it")
        return prepared


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The meaning of the logits.

    Attributes:
        classes: Names in the order of the logits; segmentation leaves the background out, which is logit 0 unless
            classes overlap.
        multi_label: Whether an image, or a pixel, may have any number of classes: a sigmoid for each, else a softmax.
        thresholds: Thresholds of the labels of classification, as ``Thresholds.to_json`` returns them; None for none.

    Raises:
        GossamerError: ``E-CONFIG`` for no class, or a name that occurs twice.
    """

    classes: tuple[str, ...]
    multi_label: bool
    thresholds: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            problem = f"{', '.join(self.classes) or 'no class'}: at least one name is required, and none twice"
            raise GossamerError(ErrorCode.CONFIG, "output.classes", problem, "export the bundle again")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of the bundle.

    Attributes:
        bytes: Size of the file.
        sha256: SHA-256 of its content, in hexadecimal digits.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The comparison of the bundle with the trained network, from file to result.

    Attributes:
        images: Number of compared images of the validation split.
        logits: Largest absolute difference of a logit.
        probabilities: Largest absolute difference of a probability.
        decisions: Share of images, or of pixels, with equal decisions.
        tolerance: Largest allowed difference of a probability; None if a loss of accuracy was limited instead, as for
            int8.
    """

    images: int
    logits: float
    probabilities: float
    decisions: float
    tolerance: float | None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a bundle except the network itself.

    Attributes:
        schema: Version of this layout.
        gossamer: Version of Gossamer that wrote it.
        created: Date and time of writing, UTC, ISO 8601.
        task: Task of the network, ``classify`` or ``segment``.
        preset: Name of the network's preset.
        attention: Name of the attention mechanism; None for a network without one.
        precision: Precision of the weights' products, ``float32`` or ``int8``.
        input: Input of the network.
        output: Meaning of its logits.
        preprocessing: Steps, as ``Preprocessing.to_json`` returns them.
        layout: Layout of the training data, which decides how volumes of several files are read.
        members: Every other file of the folder, by name.
        parity: Comparison with the trained network; None in an unfinished bundle.
        quality: Metrics of the test split, each ``{"value", "low", "high"}``, as in the run's summary.
        cost: Measured figures, as ``Figure.to_json`` returns them, and the ``machine`` of the measurement.
        source: Training data: ``name``, ``fingerprint``, numbers of ``samples`` by split, ``seed``.
        licence: Licences of ``weights`` and ``data``, as given at export; None if not stated.
        quantization: Quantized parts and their check; None in float32.
    """

    gossamer: str
    created: str
    task: TaskName
    preset: str
    attention: str | None
    input: InputSpec
    output: OutputSpec
    preprocessing: list[dict[str, Any]]
    layout: str
    schema: int = SCHEMA
    precision: Literal["float32", "int8"] = "float32"
    members: Mapping[str, Member] = field(default_factory=dict)
    parity: Parity | None = None
    quality: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    licence: Mapping[str, str | None] = field(default_factory=lambda: {"weights": None, "data": None})
    quantization: Mapping[str, Any] | None = None

    @property
    def labels_pixels(self) -> bool:
        """Whether the network labels each pixel rather than the whole image."""
        return self.task in PIXEL_TASKS

    def read_preprocessing(self, where: Path) -> AcceptedImages:
        """Return the steps from stored values to the network's input; they refuse images of another kind.

        Args:
            where: Path of the manifest, for errors.

        Raises:
            GossamerError: ``E-CONFIG`` for a step that does not exist, or values outside of its range.
        """
        return AcceptedImages(Preprocessing.from_json(self.preprocessing, str(where)).steps, self.input)

    def read_thresholds(self, where: Path) -> Thresholds | None:
        """Return the thresholds of the labels; None where there are none.

        Args:
            where: Path of the manifest, for errors.

        Raises:
            GossamerError: ``E-CONFIG`` or ``E-VALUE`` where they do not fit the classes.
        """
        if self.output.thresholds is None:
            return None
        labels = thresholded_classes(self.output.classes, multi_label=self.output.multi_label)
        return Thresholds.from_json(self.output.thresholds, str(where), labels)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as data, with its digest; a number that JSON cannot hold becomes None."""
        content = replace_nonfinite(config.to_json(self))
        return {**content, "digest": _content_digest(content)}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Manifest:
        """Return the manifest that ``to_json`` wrote.

        Raises:
            GossamerError: ``E-UNSUPPORTED`` for a schema of a later version, ``E-INTEGRITY`` if its digest is not
                that of its content, ``E-CONFIG`` if it is not a manifest.
        """
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise GossamerError(ErrorCode.CONFIG, where, "has no schema version", "use a bundle of gossamer export")
        if schema > SCHEMA:
            problem = f"has schema {schema}, this version reads up to {SCHEMA}"
            raise GossamerError(ErrorCode.UNSUPPORTED, where, problem, "update Gossamer")
        content = {key: value for key, value in data.items() if key != "digest"}
        if "digest" in data and data["digest"] != _content_digest(content):  # bundles of the first version have none
            problem = "was changed: its digest is not that of its content"
            raise GossamerError(ErrorCode.INTEGRITY, where, problem, "copy or export the bundle again")
        try:
            return config.from_json(cls, content, where)
        except GossamerError as error:  # a part that checks itself does not know its file
            if error.where.startswith(where):
                raise
            raise GossamerError(error.code, f"{where}: {error.where}", error.problem, error.remedy) from error


def _content_digest(content: Mapping[str, Any]) -> str:
    return sha256_hexdigest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
