"""Which networks a plan looks at: presets of the data's task, mechanisms that fit them, and a few image sizes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gossamer.data import ClassificationDataset, SegmentationDataset
from gossamer.data.preparation.classification import ClassificationSurvey, survey_dataset
from gossamer.data.preparation.segmentation import SegmentationSurvey, choose_spacing
from gossamer.data.preparation.segmentation import choose_image_size as choose_window
from gossamer.data.preparation.segmentation import survey_dataset as survey_masks
from gossamer.data.windows import window_starts
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.segmentation import SlidingWindow
from gossamer.nn.attention import attention_config
from gossamer.nn.models import PRESETS, NetworkConfig, ViTConfig, list_models
from gossamer.task import TaskName
from gossamer.training.classification.plan import build_model, choose_input_size
from gossamer.training.options import TrainOptions
from gossamer.training.resolve_model import NetworkChoice, choose_network
from gossamer.training.segmentation.plan import DEFAULT_STACK
from gossamer.variants import Variant

SMALL = ("_nano", "_tiny", "_small")
"""Ends of the names of presets that are meant for processors."""
MECHANISMS_TRIED = ("softmax", "sequence_norm", "kv")
"""Besides a network's own."""
FACTORS = (0.5, 1.0, 2.0)
"""Of the recipe's image size."""

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ModelCandidate:
    """A network at an image size that may be within the limits.

    Attributes:
        variant: preset and mechanism.
        network: its config for the data.
        windows: how often the network is called for one image: 1, or the windows of the median case.
    """

    variant: Variant
    network: NetworkConfig
    windows: int = 1

    @property
    def image_size(self) -> Size:
        """``(rows, columns)`` of the network's input."""
        return self.network.image_size

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.variant.name} at {self.image_size[0]}x{self.image_size[1]}"


def default_models(task: TaskName) -> list[str]:
    """Return the presets of a task that are meant for processors."""
    return [name for name in list_models(task=task) if name.endswith(SMALL)]


def list_candidates(
    dataset: ClassificationDataset | SegmentationDataset,
    *,
    models: Iterable[str] | None = None,
    attention: Iterable[str] | None = None,
    image_sizes: Iterable[Size] | None = None,
    seed: int = 0,
) -> tuple[list[ModelCandidate], list[str]]:
    """Return what could be trained on the data, and a line for each combination that was asked for and cannot be.

    Args:
        dataset: with a training split.
        models: presets; the small ones of the data's task if left out.
        attention: mechanisms, by name or as JSON; each network's own, softmax, sequence_norm and kv if left out.
        image_sizes: ``(rows, columns)``; the recipe's, half and twice of it where the network takes them if left out.
        seed: of the sample of images that is looked at.

    Raises:
        GossamerError: ``E-CONFIG`` for a name that does not exist, a network of the other task, or where nothing is
            left; the data cannot be read.
    """
    task: TaskName = "segment" if isinstance(dataset, SegmentationDataset) else "classify"
    named = list(models) if models is not None else default_models(task)
    for name in named:  # a misspelt name is refused before any image is read
        if name not in PRESETS:
            close = difflib.get_close_matches(name, list_models(task=task), n=4, cutoff=0.0)
            remedy = f"near it are {', '.join(close)}; gossamer models has all"
            raise GossamerError(ErrorCode.CONFIG, "--models", f"there is no model {name!r}", remedy)
        choose_network(task, TrainOptions(model=name))
    mechanisms = None if attention is None else list(attention)
    for mechanism in mechanisms or ():
        if not mechanism.lstrip().startswith("{"):
            attention_config(mechanism)
    sizes = None if image_sizes is None else list(image_sizes)
    found = _survey_data(dataset, seed)
    made, refused, seen = [], [], set()
    for name in named:
        for mechanism in _list_mechanisms(name, mechanisms):
            variant = Variant(model=name, attention=mechanism)
            try:
                choice = choose_network(task, TrainOptions(model=name, attention=mechanism))
                for candidate in _at_sizes(dataset, found, variant, choice, sizes, refused):
                    if candidate not in seen:
                        seen.add(candidate)
                        made.append(candidate)
            except GossamerError as error:
                if mechanisms is not None:
                    refused.append(f"{variant.name}: {error.problem}")
    if not made:
        problem = f"none of them fits the data{': ' + refused[0] if refused else ''}"
        raise GossamerError(ErrorCode.CONFIG, ", ".join(named), problem, "choose other networks, sizes or mechanisms")
    return made, refused


def _survey_data(
    dataset: ClassificationDataset | SegmentationDataset, seed: int
) -> ClassificationSurvey | SegmentationSurvey:
    if isinstance(dataset, SegmentationDataset):
        return survey_masks(dataset, seed)
    dataset.require_trainable()
    return survey_dataset(dataset, seed)


def _list_mechanisms(name: str, asked: list[str] | None) -> list[str | None]:
    """Return the mechanisms to try in a preset; those that do not fit are found out later."""
    own = PRESETS[name].attention
    if own is None:
        return [None]
    return list(dict.fromkeys(asked if asked is not None else (own.name, *MECHANISMS_TRIED)))


def _at_sizes(
    dataset: ClassificationDataset | SegmentationDataset,
    found: ClassificationSurvey | SegmentationSurvey,
    variant: Variant,
    choice: NetworkChoice,
    sizes: list[Size] | None,
    refused: list[str],
) -> Iterator[ModelCandidate]:
    """Yield the candidates of a variant. A size that was asked for and does not fit goes to ``refused``."""
    for size in sizes if sizes is not None else _default_sizes(found, choice):
        try:
            if isinstance(dataset, SegmentationDataset):
                assert isinstance(found, SegmentationSurvey)
                yield _segmentation_candidate(dataset, found, variant, choice, size)
            else:
                assert isinstance(found, ClassificationSurvey)
                network, _ = build_model(dataset, found, TrainOptions(), choice, size)
                yield ModelCandidate(variant=variant, network=network)
        except GossamerError as error:
            if sizes is not None:
                refused.append(f"{variant.name} at {size[0]}x{size[1]}: {error.problem}")


def _default_sizes(found: ClassificationSurvey | SegmentationSurvey, choice: NetworkChoice) -> list[Size]:
    """Return the recipe's size, half and twice of it, each a multiple of what the network wants."""
    first = choice.described
    if isinstance(found, SegmentationSurvey):
        usual, step = choose_window(found, first.input_requirements.multiple), first.input_requirements.multiple
        # A window that holds the largest image already gains nothing but empty border.
        larger = any(side > window for side, window in zip(found.largest, usual, strict=True))
    else:
        usual, step = choose_input_size(found, TrainOptions(), choice), first.input_requirements.multiple
        if isinstance(first, ViTConfig):
            step = 4 if max(usual) <= 64 else 16
        larger = True
    if first.input_requirements.fixed_size is not None:
        return [usual]
    factors = [factor for factor in FACTORS if factor <= 1 or larger]
    rounded = [tuple(max(step, round(side * factor / step) * step) for side in usual) for factor in factors]
    return list(dict.fromkeys((rows, columns) for rows, columns in rounded))


def _segmentation_candidate(
    dataset: SegmentationDataset, found: SegmentationSurvey, variant: Variant, choice: NetworkChoice, size: Size
) -> ModelCandidate:
    inference = SlidingWindow(size, DEFAULT_STACK if dataset.volumes else 1)
    network = choice.build_config(
        image_size=size,
        in_channels=found.channels * inference.stack,
        num_classes=len(dataset.classes) + (0 if dataset.overlapping else 1),
    )
    return ModelCandidate(variant=variant, network=network, windows=count_windows(found, inference))


def count_windows(found: SegmentationSurvey, inference: SlidingWindow) -> int:
    """Return how many windows the network sees of the median case: all slices, and the windows of each."""
    scale = (1.0, 1.0)
    if found.spacings_differ and found.spacing_mm is not None:
        target = choose_spacing(found)
        scale = (found.spacing_mm[0] / target[0], found.spacing_mm[1] / target[1])
    sides = [round(side * factor) for side, factor in zip(found.shape, scale, strict=True)]
    each = [
        len(window_starts(side, window, inference.overlap))
        for side, window in zip(sides, inference.window, strict=True)
    ]
    return found.slices * math.prod(each)
