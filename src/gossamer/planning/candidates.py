"""Networks that a plan considers: presets of the task, mechanisms that fit them, and a few image sizes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gossamer.data import Dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import attention_text
from gossamer.nn.models import PRESETS, NetworkConfig, list_models
from gossamer.planning.tasks import TASKS
from gossamer.task import TaskName
from gossamer.training.options import TrainOptions
from gossamer.training.resolve_model import NetworkChoice, choose_network
from gossamer.variants import USUAL_MECHANISMS, Variant

SMALL_SUFFIXES = ("_nano", "_tiny", "_small")
"""Suffixes of presets that are meant for CPUs."""
SIZE_FACTORS = (0.5, 1.0, 2.0)
"""Factors of the recipe's image size."""


@dataclass(frozen=True, kw_only=True)
class ModelCandidate:
    """A network at an image size.

    Attributes:
        variant: Preset and attention mechanism.
        network: Configuration of the network for the data.
        windows: Number of calls of the network for one image: 1, or the number of windows of the median case.
    """

    variant: Variant
    network: NetworkConfig
    windows: int = 1

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of the network's input."""
        return self.network.image_size

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.variant.name} at {self.image_size[0]}x{self.image_size[1]}"


def list_candidates(
    dataset: Dataset,
    *,
    models: Iterable[str] | None = None,
    attention: Iterable[str] | None = None,
    image_sizes: Iterable[tuple[int, int]] | None = None,
    seed: int = 0,
) -> tuple[list[ModelCandidate], list[str]]:
    """Return the networks that can be trained on the data, and a line for each requested one that cannot.

    Args:
        dataset: Data set with a training split.
        models: Names of presets (default: the small ones of the data's task).
        attention: Attention mechanisms, by name, reference or JSON (default: each network's own, and
            ``USUAL_MECHANISMS``).
        image_sizes: Rows and columns of the input (default: the recipe's size, half of it and twice it).
        seed: Seed of the sample of images that is surveyed.

    Raises:
        GossamerError: ``E-CONFIG`` for an unknown name, a network of another task, or if no candidate is left; the
            data cannot be read.
    """
    names = list(models) if models is not None else _small_models(dataset.task)
    mechanisms = None if attention is None else [_require_known_mechanism(each) for each in attention]
    _require_known_models(names, dataset.task)  # before any image is read
    sizes = None if image_sizes is None else list(image_sizes)
    found = TASKS[dataset.task].survey_data(dataset, seed)
    candidates: dict[ModelCandidate, None] = {}
    refused: list[str] = []
    for name in names:
        for mechanism in _list_mechanisms(name, mechanisms):
            variant = Variant(model=name, attention=mechanism)
            try:
                choice = choose_network(dataset.task, TrainOptions(model=name, attention=mechanism))
                candidates |= dict.fromkeys(_list_sizes(dataset, found, variant, choice, sizes, refused))
            except GossamerError as error:
                if mechanisms is not None:
                    refused.append(f"{variant.name}: {error.problem}")
    if not candidates:
        problem = f"none of them fits the data{': ' + refused[0] if refused else ''}"
        raise GossamerError(ErrorCode.CONFIG, ", ".join(names), problem, "use other networks, sizes or mechanisms")
    return list(candidates), refused


def _small_models(task: TaskName) -> list[str]:
    return [name for name in list_models(task=task) if name.endswith(SMALL_SUFFIXES)]


def _require_known_models(models: Iterable[str], task: TaskName) -> None:
    for name in models:
        if name not in PRESETS:
            close = difflib.get_close_matches(str(name), list_models(task=task), n=4, cutoff=0.0)
            remedy = f"similar names are {', '.join(close)}; gossamer models lists all"
            raise GossamerError(ErrorCode.CONFIG, "models", f"there is no model {name!r}", remedy)
        choose_network(task, TrainOptions(model=name))


def _require_known_mechanism(text: str) -> str:
    """Return the text of a mechanism whose name or file is known; JSON is checked with each network."""
    return text if text.lstrip().startswith("{") else attention_text(text)


def _list_mechanisms(model: str, requested: list[str] | None) -> list[str | None]:
    """Return the mechanisms to try in a preset. Those that do not fit are found later."""
    own = PRESETS[model].attention
    if own is None:
        return [None]
    return list(dict.fromkeys(requested if requested is not None else (own.name, *USUAL_MECHANISMS)))


def _list_sizes(
    dataset: Dataset,
    found: Any,
    variant: Variant,
    choice: NetworkChoice,
    sizes: list[tuple[int, int]] | None,
    refused: list[str],
) -> Iterator[ModelCandidate]:
    """Yield the candidates of a variant. A requested size that does not fit is added to ``refused``."""
    task = TASKS[dataset.task]
    for size in sizes if sizes is not None else _default_sizes(dataset.task, found, choice):
        try:
            network, windows = task.build_candidate(dataset, found, choice, size)
        except GossamerError as error:
            if sizes is not None:
                refused.append(f"{variant.name} at {size[0]}x{size[1]}: {error.problem}")
            continue
        yield ModelCandidate(variant=variant, network=network, windows=windows)


def _default_sizes(task: TaskName, found: Any, choice: NetworkChoice) -> list[tuple[int, int]]:
    """Return the recipe's size, half of it and twice it, as multiples of what the network accepts."""
    usual, step, can_grow = TASKS[task].choose_size(found, choice)
    if choice.described.input_requirements.fixed_size is not None:
        return [usual]
    factors = [factor for factor in SIZE_FACTORS if factor <= 1 or can_grow]
    rounded = [tuple(max(step, round(side * factor / step) * step) for side in usual) for factor in factors]
    return list(dict.fromkeys((rows, columns) for rows, columns in rounded))
