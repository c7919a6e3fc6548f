"""Candidates for classification: one call of the network for an image."""

from __future__ import annotations

from gossamer.data import ClassificationDataset
from gossamer.data.preparation.classification import ClassificationSurvey, survey_dataset
from gossamer.nn.models import NetworkConfig, ViTConfig
from gossamer.training.classification.plan import build_model, choose_input_size
from gossamer.training.options import TrainOptions
from gossamer.training.resolve_model import NetworkChoice

_SMALL_IMAGE = 64
"""Side in pixels up to which a Vision Transformer's size is a multiple of 4, and of 16 above."""


def survey_data(dataset: ClassificationDataset, seed: int) -> ClassificationSurvey:
    """Return what a sample of the training images shows.

    Args:
        dataset: Data set with a training split.
        seed: Seed of the sample.

    Raises:
        GossamerError: An image cannot be read, or the data cannot be trained with.
    """
    dataset.require_trainable()
    return survey_dataset(dataset, seed)


def choose_size(found: ClassificationSurvey, choice: NetworkChoice) -> tuple[tuple[int, int], int, bool]:
    """Return the recipe's image size, the number that sides are a multiple of, and whether larger sizes are useful.

    Args:
        found: Survey of the training images.
        choice: Network.
    """
    usual = choose_input_size(found, TrainOptions(), choice)
    if isinstance(choice.described, ViTConfig):
        return usual, 4 if max(usual) <= _SMALL_IMAGE else 16, True
    return usual, choice.described.input_requirements.multiple, True


def build_candidate(
    dataset: ClassificationDataset, found: ClassificationSurvey, choice: NetworkChoice, size: tuple[int, int]
) -> tuple[NetworkConfig, int]:
    """Return the configuration of a network at an image size, and its number of calls for one image.

    Args:
        dataset: Data set with a training split.
        found: Survey of the training images.
        choice: Network.
        size: Rows and columns of the network's input.

    Raises:
        GossamerError: The network does not accept the size or the mechanism.
    """
    return build_model(dataset, found, TrainOptions(), choice, size)[0], 1
