"""A run whose network and recipe are chosen, before all images are read at the network's size."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gossamer.data import Dataset
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.models import NetworkConfig
from gossamer.training.options import TrainOptions
from gossamer.training.recipe import Recipe
from gossamer.training.resolve_model import NetworkChoice
from gossamer.training.run_folder import RunConfig

Survey = TypeVar("Survey")


@dataclass(frozen=True)
class RunDraft(Generic[Survey]):
    """The network and the recipe of a run.

    Attributes:
        choice: Preset, mechanism and initial weights.
        model: Config of the network, complete.
        recipe: Recipe of training.
        found: Survey of the training images.
        notes: Notes on what was chosen for the user.
        kept_images: Number of images that training keeps in memory at the size and type of the network's input.
        inference: Windows through which a segmentation network sees an image; None in classification.
    """

    choice: NetworkChoice
    model: NetworkConfig
    recipe: Recipe
    found: Survey
    notes: tuple[Note, ...]
    kept_images: int = 0
    inference: SlidingWindow | None = None

    def complete(
        self,
        dataset: Dataset,
        options: TrainOptions,
        preprocessing: Preprocessing,
        *,
        multi_label: bool,
        monitor: str,
    ) -> RunConfig:
        """Return the config of the run.

        Args:
            dataset: Data to train on.
            options: Options of the run.
            preprocessing: Steps from stored values to the network's input.
            multi_label: Whether an image or a pixel may have any number of classes.
            monitor: Validation metric that chooses the best epoch.
        """
        return RunConfig(
            data=dataset.source,
            layout=dataset.layout,
            data_fingerprint=dataset.fingerprint(),
            classes=dataset.classes,
            multi_label=multi_label,
            seed=options.seed,
            preset=self.choice.preset,
            model=self.model,
            preprocessing=preprocessing,
            recipe=self.recipe,
            monitor=monitor,
            task=dataset.task,
            inference=self.inference,
            init=None if self.choice.initial is None else self.choice.initial.source,
        )


def refuse_options(options: TrainOptions, names: Iterable[str], problem: str) -> None:
    """Raise if an option is given that does not apply to the task.

    Args:
        options: Options of the run.
        names: Names of the options that do not apply.
        problem: Reason, for the error.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    for name in options.given(*names):
        raise GossamerError(ErrorCode.CONFIG, name, problem, f"omit {name}")


def override_recipe(recipe: Recipe, options: TrainOptions, names: Iterable[str]) -> Recipe:
    """Return the recipe with the values of the given options.

    Args:
        recipe: Recipe to change.
        options: Options of the run.
        names: Names of the options that are fields of a recipe too.
    """
    given = options.given(*names)
    if options.flips is not None:
        given["augmentation"] = dataclasses.replace(recipe.augmentation, flips=options.flips)
    return dataclasses.replace(recipe, **given)
