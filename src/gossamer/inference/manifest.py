"""What stands in a bundle's ``manifest.json``: all that is needed to run the network, and where it comes from.

A bundle is a folder: ``model.onnx``, ``manifest.json`` and a ``README.md`` that is written from it. The manifest lists
every other member with its size and SHA-256; nothing else may lie in the folder. Its own ``digest`` is the SHA-256 of
the rest of it, as JSON with sorted keys and no spaces: it says that nobody edited the manifest, not who wrote it.
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
    """What the network is given.

    Attributes:
        channels: of an image, before neighbouring slices are stacked.
        window: ``(rows, columns)`` that the network was trained on, and sees at once.
        dynamic: whether it takes other numbers of rows and columns too.
        multiple: both sides are multiples of this.
        stack: neighbouring slices of a volume that are its channels, of segmentation.
        overlap: fraction of a window that neighbours share at least, of segmentation.
        stored: type of the stored values that training images had, such as ``uint8``; None where any is meant.

    Raises:
        GossamerError: ``E-CONFIG``, for numbers that cannot be.
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
                raise GossamerError(ErrorCode.CONFIG, f"input.{name}", f"{value} is less than 1", "use 1 or more")
        if math.prod(self.window) > MAX_FRAME_PIXELS:
            problem = f"{self.window[0]}x{self.window[1]} are more than {MAX_FRAME_PIXELS} pixels"
            raise GossamerError(ErrorCode.CONFIG, "input.window", problem, "export the bundle again")
        if any(side % self.multiple for side in self.window):
            problem = f"{self.window[0]}x{self.window[1]} is not a multiple of {self.multiple}"
            raise GossamerError(ErrorCode.CONFIG, "input.window", problem, "export the bundle again")

    def takes(self, sides: tuple[int, ...]) -> bool:
        """Return whether the network takes images of so many rows and columns."""
        return all(side and side % self.multiple == 0 for side in sides) if self.dynamic else sides == self.window

    @property
    def sides(self) -> str:
        """Which rows and columns the network takes, in words."""
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
            problem = f"holds {image.array.dtype.name} values, the bundle takes {wanted}"
            remedy = f"convert it to {wanted} on the same scale as the training images"
            raise GossamerError(ErrorCode.VALUE, image.source, problem, remedy)
        prepared = super().__call__(image)
        if prepared.channels != self.input.channels:
            problem = f"has {prepared.channels} channels, the bundle takes {self.input.channels}"
            raise GossamerError(ErrorCode.UNSUPPORTED, image.source, problem, "convert the image, or train with it")
        return prepared


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """What becomes of the logits.

    Attributes:
        classes: names in the order of the logits; of segmentation without the background, which is logit 0 unless
            classes overlap.
        multi_label: whether an image, or a pixel, may have any number of classes: a sigmoid for each, else a softmax.
        thresholds: of the labels of classification, as ``Thresholds.to_json`` has them; None where there are none.

    Raises:
        GossamerError: ``E-CONFIG``, for no class, or a name that occurs twice.
    """

    classes: tuple[str, ...]
    multi_label: bool
    thresholds: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            problem = f"{', '.join(self.classes) or 'no class'}: at least one name is wanted, none twice"
            raise GossamerError(ErrorCode.CONFIG, "output.classes", problem, "export the bundle again")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Parity:
    """That the bundle answers as the trained network does, from file to result.

    Attributes:
        images: of the validation split that were compared.
        logits: largest absolute difference of a logit.
        probabilities: largest absolute difference of a probability.
        decisions: share of equal decisions: of images, or of pixels.
        tolerance: largest difference of a probability that was allowed; None where a loss of quality was allowed
            instead, as for int8.
    """

    images: int
    logits: float
    probabilities: float
    decisions: float
    tolerance: float | None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a bundle but the network itself.

    Attributes:
        schema: version of this layout.
        gossamer: version that wrote it.
        created: date and time, UTC, ISO 8601.
        task: ``classify`` or ``segment``.
        preset: of the network.
        attention: name of the mechanism; None for a network without.
        precision: ``float32``, or ``int8`` where products of weights are in 8 bits.
        input: what the network is given.
        output: what becomes of its logits.
        preprocessing: the steps, as ``Preprocessing.to_json`` has them.
        layout: of the training data, which decides how volumes of several files are read.
        members: every other file of the folder.
        parity: the proof; None in a bundle that is being made.
        quality: metrics of the test split, each ``{"value", "low", "high"}``, as the run's summary has them.
        cost: measured figures, as ``Figure.to_json`` has them, with ``machine`` that they were measured on.
        source: ``name`` of the training data, ``fingerprint``, numbers of ``samples`` by split, ``seed``.
        licence: ``weights`` and ``data``, in the words of whoever exported; None where not stated.
        quantization: what was quantized and how it was checked; None in float32.
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
        return {**content, "digest": _digest(content)}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Manifest:
        """Return the manifest that ``to_json`` wrote.

        Raises:
            GossamerError: ``E-UNSUPPORTED`` for a schema of a later version, ``E-INTEGRITY`` where its digest is not
                that of its content, ``E-CONFIG`` where it is no manifest.
        """
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise GossamerError(ErrorCode.CONFIG, where, "has no schema version", "use a bundle of gossamer export")
        if schema > SCHEMA:
            problem = f"has schema {schema}, this version reads up to {SCHEMA}"
            raise GossamerError(ErrorCode.UNSUPPORTED, where, problem, "update Gossamer")
        content = {key: value for key, value in data.items() if key != "digest"}
        if "digest" in data and data["digest"] != _digest(content):  # the first bundles have none
            problem = "was changed: its digest is not that of its content"
            raise GossamerError(ErrorCode.INTEGRITY, where, problem, "copy or export the bundle again")
        try:
            return config.from_json(cls, content, where)
        except GossamerError as error:  # a part that checks itself does not know the file that it stands in
            if error.where.startswith(where):
                raise
            raise GossamerError(error.code, f"{where}: {error.where}", error.problem, error.remedy) from error


def _digest(content: Mapping[str, Any]) -> str:
    return sha256_hexdigest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
