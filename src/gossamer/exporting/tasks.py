"""The two tasks for exporting: the modules ``classification`` and ``segmentation``, looked up once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from gossamer.data.image import Image
from gossamer.exporting import classification, segmentation
from gossamer.exporting.difference import ImageDifference
from gossamer.inference.manifest import InputSpec, OutputSpec
from gossamer.task import TaskName
from gossamer.training.run_folder import RunConfig


class ExportTask(Protocol):
    """What exporting needs to know of a task; the functions are documented in the two modules."""

    @property
    def PURPOSE(self) -> str:  # noqa: N802 -- a constant of a module
        """What the network does, for the model card."""
        ...

    @property
    def PREDICT_OUTPUT(self) -> str:  # noqa: N802
        """Example of an output path of ``gossamer predict``."""
        ...

    @property
    def TRIVIAL_BASELINE(self) -> str:  # noqa: N802
        """Baseline that metrics are compared with."""
        ...

    @property
    def PARITY_TOLERANCE(self) -> float:  # noqa: N802
        """Largest allowed difference of a probability."""
        ...

    def make_input_spec(self, run: RunConfig, *, dynamic: bool, stored: str | None) -> InputSpec:
        """Return the description of the network's input."""
        ...

    def count_parity_samples(self, dataset: Any) -> int:
        """Return the largest number of samples that are compared."""
        ...

    def compare_image(self, reference: Any, candidate: Any, image: Image, tolerance: float) -> ImageDifference:
        """Return the difference of two predictors on one image."""
        ...

    def describe_input(self, spec: InputSpec, window: str) -> Iterator[str]:
        """Yield lines of the model card on accepted images."""
        ...

    def describe_output(self, output: OutputSpec) -> Iterator[str]:
        """Yield lines of the model card on the meaning of the output."""
        ...


_CLASSIFICATION: ExportTask = classification
_SEGMENTATION: ExportTask = segmentation
EXPORT_TASKS: dict[TaskName, ExportTask] = {"classify": _CLASSIFICATION, "segment": _SEGMENTATION}
