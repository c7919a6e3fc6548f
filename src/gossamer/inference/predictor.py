"""A trained model that is ready to predict, whatever computes its network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import read_picture
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.inference.decisions import Thresholds, compute_probabilities
from gossamer.inference.stage_timer import Lap, no_timing, time_calls
from gossamer.task import TaskName

if TYPE_CHECKING:
    from gossamer.data.label_map import LabelMap
    from gossamer.inference.classification import ClassPrediction

Network = Callable[[np.ndarray], np.ndarray]
"""Function of inputs ``(batch, channels, rows, columns)``, float32, to logits ``(batch, classes, ...)``, float32."""

ImageLike = Image | np.ndarray | Path | str
"""An image, its stored values, or the path of its file."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictor(ABC):
    """A trained network with its preprocessing and the rules that decide on its results.

    ``ClassificationPredictor`` and ``SegmentationPredictor`` implement it. ``gossamer.load`` opens one.

    Attributes:
        network: Function of prepared images to logits, computed by PyTorch or by an engine.
        preprocessing: Steps from stored values to the network's input.
        classes: Class names in the order of the results; segmentation leaves the background out.
        multi_label: Whether an image, or a pixel, may have any number of classes (a sigmoid for each, else a softmax).
        thresholds: Thresholds of the labels of classification, where some were chosen.
        continuous: Whether a rounding error in the network changes every logit only a little.
        seed: Seed of the training, which also decides splits that a data set leaves open.
        facts: Origin of the model as data: the run, or the bundle with engine, its version and number of threads.
        notes: Remarks that a reader of the results should see.
        lap: Function that is called at the end of each stage of a prediction.
    """

    task: ClassVar[TaskName]

    network: Network
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    multi_label: bool = False
    thresholds: Thresholds | None = None
    continuous: bool = True
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    lap: Lap = no_timing

    @abstractmethod
    def predict(self, image: ImageLike) -> ClassPrediction | LabelMap:
        """Return the prediction for one image.

        Args:
            image: Image, stored values ``(rows, columns)``, ``(rows, columns, channels)`` or, for segmentation,
                ``(slices, rows, columns)``, or the path of a file.

        Raises:
            GossamerError: The image cannot be read or used, or ``E-VALUE`` if its probabilities are not finite.
        """

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Return the probabilities of prepared inputs, float32 and of the shape of the logits."""
        return compute_probabilities(self.network(inputs), multi_label=self.multi_label)

    def read_image(self, path: Path) -> Image:
        """Return the picture in a file."""
        return read_picture(path)

    def as_image(self, image: ImageLike) -> Image:
        """Return an image, an array or a file as an image.

        Raises:
            GossamerError: The file cannot be read, or ``E-GEOMETRY`` for an array of other than two or three axes.
        """
        if isinstance(image, Image):
            return image
        if isinstance(image, np.ndarray):
            return self._image_of_array(image)
        return self.read_image(Path(image))

    def _image_of_array(self, array: np.ndarray) -> Image:
        """Return an array as an image without spacing; three axes are a picture with channels."""
        if array.ndim not in (2, 3):
            problem = f"an array of {array.ndim} axes is not an image"
            raise GossamerError(ErrorCode.GEOMETRY, "image", problem, "give (rows, columns[, channels]), or an Image")
        return Image(array, ("rows", "columns", "channels")[: array.ndim], "array")

    def with_lap(self, lap: Lap) -> Self:
        """Return the same predictor with a function that is called at the end of each stage."""
        return replace(self, network=time_calls(self.network, lap), lap=lap)

    def __repr__(self) -> str:
        origin = ", ".join(f"{name} {value}" for name, value in self.facts.items() if value is not None)
        names = ", ".join(self.classes[:8]) + (f" and {len(self.classes) - 8} more" if len(self.classes) > 8 else "")
        rule = "any number of classes" if self.multi_label else "one class"
        return f"{type(self).__name__}({origin or 'no origin'}; {rule} of: {names})"
