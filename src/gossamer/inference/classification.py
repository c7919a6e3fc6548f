"""Pictures without labels to their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data.image import Image
from gossamer.data.io import RASTER_SUFFIXES, read_image
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.inference.bundle import Bundle
from gossamer.inference.decisions import Thresholds, chosen_classes, names_of, probabilities_of, require_finite
from gossamer.inference.stage_timer import Lap, no_timing, time_calls


@dataclass(frozen=True)
class ClassificationPredictor:
    """A trained network with everything that stands between an image and its classes.

    Attributes:
        network: images ``(batch, channels, rows, columns)`` to probabilities ``(batch, classes)``, float32.
        preprocessing: stored values to the network's input.
        classes: names, in the order of the probabilities.
        multi_label: whether an image may have any number of classes.
        thresholds: of the labels, where some were chosen.
        lap: told when a stage ends.
    """

    network: Callable[[np.ndarray], np.ndarray]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    multi_label: bool
    thresholds: Thresholds | None = None
    lap: Lap = no_timing

    def __call__(self, image: Image) -> np.ndarray:
        """Return the probability of each class, ``(classes,)``.

        Raises:
            GossamerError: the image cannot be used; ``E-VALUE`` where its probabilities are no numbers.
        """
        probabilities = self.network(self.preprocessing.network_input(image)[None])[0]
        require_finite(probabilities, image.source)
        return probabilities

    def decide(self, probabilities: np.ndarray) -> str:
        """Return the classes that are predicted of one image, joined by ``|``; ``-`` for none."""
        chosen = chosen_classes(probabilities[None], multi_label=self.multi_label, thresholds=self.thresholds)
        return names_of(chosen, self.classes)[0]


def bundle_classifier(bundle: Bundle, lap: Lap = no_timing) -> ClassificationPredictor:
    """Return the network of a bundle with everything that stands between an image and its classes.

    Args:
        bundle: that was opened.
        lap: told when a stage ends.

    Raises:
        GossamerError: ``E-CONFIG`` for a bundle that segments.
    """
    output = bundle.manifest.output
    if bundle.manifest.task != "classify":
        raise GossamerError(ErrorCode.CONFIG, bundle.path, "segments, classes are asked for", "use another bundle")
    logits = time_calls(bundle.predict, lap)

    def probabilities(images: np.ndarray) -> np.ndarray:
        return probabilities_of(logits(images), multi_label=output.multi_label)

    return ClassificationPredictor(
        probabilities, bundle.preprocessing, output.classes, output.multi_label, bundle.thresholds, lap
    )


@dataclass(frozen=True)
class Classified:
    """What is said of one picture.

    Attributes:
        path: of the picture.
        name: the predicted classes, joined by ``|``.
        probabilities: ``(classes,)``.
        notes: what was decided while reading.
    """

    path: Path
    name: str
    probabilities: np.ndarray
    notes: tuple[Note, ...] = ()


@dataclass
class ClassResults:
    """What came of a prediction.

    Attributes:
        classes: names of the probabilities.
        answers: of every picture that could be used.
        errors: of the others, with their paths.
    """

    classes: tuple[str, ...]
    answers: list[Classified] = field(default_factory=list)
    errors: list[tuple[Path, GossamerError]] = field(default_factory=list)

    def table(self) -> list[list[str]]:
        """Return a heading and one row a picture: path, prediction, probabilities."""
        rows = [["path", "prediction", *(f"p({name})" for name in self.classes)]]
        return rows + [[str(one.path), one.name, *(f"{p:.6f}" for p in one.probabilities)] for one in self.answers]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the answers as data."""
        return [
            {
                "path": str(one.path),
                "prediction": one.name,
                "probabilities": dict(zip(self.classes, one.probabilities.tolist(), strict=True)),
                "notes": [note.to_json() for note in one.notes],
            }
            for one in self.answers
        ]


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Return the files among ``paths`` and the pictures inside its folders, in order.

    Raises:
        GossamerError: ``E-MISSING``, where a path is not there or there is no picture.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise GossamerError(ErrorCode.MISSING, path, "no such file or folder", "check the path")
        if path.suffix.lower() in (".npz", ".csv"):
            problem = "is a data set, predict takes images"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, f"use gossamer evaluate RUN {path}")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [
            file for file in inside if file.is_file() and (file == path or file.suffix.lower() in RASTER_SUFFIXES)
        ]
    if not files:
        where = ", ".join(str(path) for path in paths) or "gossamer predict"
        raise GossamerError(
            ErrorCode.MISSING, where, "no images", f"name files or folders with {', '.join(RASTER_SUFFIXES)}"
        )
    return files


def classify_pictures(
    model: ClassificationPredictor,
    files: Sequence[Path],
    *,
    strict: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClassResults:
    """Classify ``files``, one after the other. A picture that cannot be used does not stop the others.

    Args:
        model: the network with its preprocessing.
        files: pictures.
        strict: raise the first error.
        on_progress: called with the number of pictures done, and their total.

    Raises:
        GossamerError: no picture can be used, or the first that cannot where ``strict``.
    """
    results = ClassResults(model.classes)
    for done, file in enumerate(files, start=1):
        try:
            image = read_image(file)
            model.lap("read")
            probabilities = model(image)
        except GossamerError as error:
            if strict:
                raise
            results.errors.append((file, error))
            model.lap("read")
        else:
            results.answers.append(Classified(file, model.decide(probabilities), probabilities, image.notes))
            model.lap("postprocess")
        on_progress(done, len(files))
    if results.errors and not results.answers:
        raise none_usable(results.errors)
    return results


def none_usable(errors: Sequence[tuple[Path, GossamerError]]) -> GossamerError:
    """Return the error of inputs that all failed: that of the first, which says so of the others."""
    error = errors[0][1]
    if len(errors) == 1:
        return error
    others = f"{error.problem}; none of {len(errors)} inputs can be used"
    return GossamerError(error.code, error.where, others, error.remedy)
