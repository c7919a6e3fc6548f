"""The proof that a bundle answers as the trained network does, from file to result.

Both pipelines are run side by side on images of the validation split, each from its own description of the steps, and
compared at three stages: what the preprocessing gives must be equal bit for bit, the probabilities of the network may
differ by rounding, and what is decided must be the same, but for what lies that close to a boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from gossamer.data import ClassificationDataset, Sample, SegmentationDataset
from gossamer.data.image import Image
from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import Bundle
from gossamer.inference.decisions import HALF, Thresholds, chosen_classes, compute_probabilities
from gossamer.inference.manifest import MANIFEST, Parity
from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow
from gossamer.nn.models import Network
from gossamer.training.run_folder import RunConfig

TOLERANCE, PIXEL_TOLERANCE = 1e-4, 1e-3
"""Largest difference of a probability, of an image and of a pixel: the worst of millions of pixels says little, and
logits of a trained network, which are large, round more coarsely."""
SAME_PIXELS = 0.999
"""Share of pixels of an image that are decided alike, at least: blended windows may lie as close to a boundary."""
IMAGES, VOLUMES = 16, 4
"""That are compared, at most."""

Stage = Literal["preprocess", "network", "decision"]
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A network with everything that stands between an image and its result.

    Attributes:
        preprocessing: stored values to the network's input.
        logits: of images ``(batch, channels, rows, columns)``.
        probabilities: of logits.
        classes: names, background not among them.
        multi_label: whether any number of classes may hold.
        thresholds: of the labels of classification.
        inference: windows and neighbouring slices, of segmentation.
        continuous: whether rounding changes every logit by little.
    """

    preprocessing: Preprocessing
    logits: Run
    probabilities: Run
    classes: tuple[str, ...]
    multi_label: bool
    thresholds: Thresholds | None = None
    inference: SlidingWindow | None = None
    continuous: bool = True


def trained_pipeline(network: Network, run: RunConfig, thresholds: Thresholds | None) -> Pipeline:
    """Return the pipeline of a run, in PyTorch."""
    network = network.eval()

    def logits(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).float().numpy()

    def probabilities(values: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(values)
        return (torch.sigmoid(tensor) if run.multi_label else torch.softmax(tensor, dim=1)).numpy()

    return Pipeline(
        preprocessing=run.preprocessing,
        logits=logits,
        probabilities=probabilities,
        classes=run.classes,
        multi_label=run.multi_label,
        thresholds=thresholds,
        inference=run.inference,
        continuous=network.config.input_requirements.continuous,
    )


def bundle_pipeline(bundle: Bundle) -> Pipeline:
    """Return the pipeline of a bundle, as its manifest describes it."""
    spec, output = bundle.manifest.input, bundle.manifest.output
    segments = bundle.manifest.task == "segment"
    where = bundle.path / MANIFEST
    return Pipeline(
        preprocessing=bundle.manifest.read_preprocessing(where),
        logits=bundle.compute_logits,
        probabilities=lambda logits: compute_probabilities(logits, multi_label=output.multi_label),
        classes=output.classes,
        multi_label=output.multi_label,
        thresholds=bundle.manifest.read_thresholds(where),
        inference=SlidingWindow(spec.window, spec.stack, spec.overlap) if segments else None,
    )


def parity_samples(dataset: ClassificationDataset | SegmentationDataset) -> list[Sample]:
    """Return up to 16 images, or 4 volumes, spread evenly over the validation split.

    Raises:
        GossamerError: ``E-MISSING`` where there is no such split.
    """
    samples = dataset.split("val")
    wanted = VOLUMES if isinstance(dataset, SegmentationDataset) and dataset.volumes else IMAGES
    places = np.linspace(0, len(samples) - 1, min(wanted, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def measure_parity(
    reference: Pipeline,
    candidate: Pipeline,
    dataset: ClassificationDataset | SegmentationDataset,
    samples: Sequence[Sample],
    *,
    strict: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Parity:
    """Return how far two pipelines differ on the images of ``samples``.

    Args:
        reference: the trained network.
        candidate: what should answer as it does.
        dataset: where the samples come from.
        samples: which ones, at least one.
        strict: whether a difference beyond the tolerance is an error; it is only measured otherwise.
        on_progress: called with the number of images done, and their total.

    Raises:
        GossamerError: ``E-INTEGRITY`` beyond the tolerance, with the image and the stage.
    """
    masks = reference.inference is not None
    compare, usual = (_compare_masks, PIXEL_TOLERANCE) if masks else (_compare_classes, TOLERANCE)
    tolerance = usual if strict else None
    worst = {"logits": 0.0, "probabilities": 0.0}
    same = total = 0
    for number, sample in enumerate(samples, start=1):
        read = dataset.read(sample)
        found = compare(reference, candidate, read if isinstance(read, Image) else read.image, tolerance)
        worst = {key: max(value, getattr(found, key)) for key, value in worst.items()}
        same, total = same + found.same, total + found.decisions
        if found.stage is not None and tolerance is not None:
            raise _differs(sample.id, found, tolerance)
        on_progress(number, len(samples))
    return Parity(images=len(samples), **worst, decisions=same / total, tolerance=tolerance)


@dataclass(frozen=True)
class _Difference:
    """Of one image: the largest differences, equal decisions, their number, and the first stage that failed."""

    logits: float
    probabilities: float
    same: int
    decisions: int
    stage: Stage | None


def _compare_classes(reference: Pipeline, candidate: Pipeline, image: Image, tolerance: float | None) -> _Difference:
    inputs = [side.preprocessing.network_input(image)[None] for side in (reference, candidate)]
    logits = [side.logits(given) for side, given in zip((reference, candidate), inputs, strict=True)]
    wanted, found = (side.probabilities(given) for side, given in zip((reference, candidate), logits, strict=True))
    chosen = [
        chosen_classes(given, multi_label=side.multi_label, thresholds=side.thresholds)
        for side, given in ((reference, wanted), (candidate, found))
    ]
    worst = _largest(wanted, found)
    same = np.array_equal(chosen[0], chosen[1])
    stage: Stage | None = None
    if not np.array_equal(inputs[0], inputs[1]):
        stage = "preprocess"
    elif worst > (tolerance or 0.0):
        stage = "network"
    elif not same and not _on_the_boundary(reference, wanted, chosen[0] != chosen[1], tolerance or 0.0):
        stage = "decision"
    return _Difference(_largest(logits[0], logits[1]), worst, int(same), 1, stage)


def _compare_masks(reference: Pipeline, candidate: Pipeline, image: Image, tolerance: float | None) -> _Difference:
    inputs = [side.preprocessing.network_stack(image) for side in (reference, candidate)]
    equal = reference.inference == candidate.inference and np.array_equal(inputs[0], inputs[1])
    del inputs
    kept: list[np.ndarray] = []
    worst, beyond, seen = [0.0, 0.0], 0, 0

    def keep(logits: np.ndarray) -> None:
        kept.append(logits)

    def check(logits: np.ndarray) -> None:
        nonlocal beyond, seen
        wanted = kept.pop(0) if kept else np.full_like(logits, np.nan)  # other windows than those of the reference
        worst[0] = max(worst[0], _largest(wanted, logits))
        probabilities = reference.probabilities(wanted), candidate.probabilities(logits)
        worst[1] = max(worst[1], _largest(*probabilities))
        if wanted.shape == logits.shape:
            beyond += int((np.abs(probabilities[0] - probabilities[1]) > (tolerance or 0.0)).sum())
            seen += logits.size

    wanted, found = _masks(reference, image, keep), _masks(candidate, image, check)
    same = (wanted == found).all(axis=0) if wanted.shape == found.shape else np.zeros(1, bool)
    stage: Stage | None = None
    if not equal:
        stage = "preprocess"
    elif not np.isfinite(worst[1]) or beyond > (0 if reference.continuous else (1 - SAME_PIXELS) * seen):
        stage = "network"
    elif same.mean() < SAME_PIXELS:
        stage = "decision"
    return _Difference(worst[0], worst[1], int(same.sum()), same.size, stage)


def _masks(side: Pipeline, image: Image, see: Callable[[np.ndarray], None]) -> np.ndarray:
    """Return the planes of the classes; ``see`` is shown the logits of each call."""

    def network(windows: np.ndarray) -> np.ndarray:
        logits = side.logits(windows)
        see(logits)
        return np.nan_to_num(logits, posinf=0.0, neginf=0.0)  # what is not finite was just seen

    assert side.inference is not None
    predictor = SegmentationPredictor(
        network=network,
        preprocessing=side.preprocessing,
        windows=side.inference,
        classes=side.classes,
        multi_label=side.multi_label,
    )
    return predictor.predict(image).planes


def _largest(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the largest difference; infinite where shapes differ, or a value is not finite."""
    if wanted.shape != found.shape or not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(wanted - found).max(initial=0.0))


def _on_the_boundary(side: Pipeline, probabilities: np.ndarray, differ: np.ndarray, tolerance: float) -> bool:
    """Return whether what was decided otherwise lies so close to its boundary that rounding may decide it."""
    if side.multi_label:
        cuts = HALF if side.thresholds is None else side.thresholds.array()
        return bool((np.abs(probabilities - cuts)[differ] <= tolerance).all())
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return bool((first - second <= 2 * tolerance).all())


def _differs(image: str, found: _Difference, tolerance: float) -> GossamerError:
    problems: dict[Stage, str] = {
        "preprocess": "the bundle's preprocessing gives other pixels than the run's",
        "network": f"a probability of the bundle differs by {found.probabilities:.2g}, {tolerance:g} is allowed",
        "decision": f"{found.decisions - found.same} of {found.decisions} decisions of the bundle differ",
    }
    assert found.stage is not None
    problem = f"{problems[found.stage]} (stage: {found.stage})"
    return GossamerError(ErrorCode.INTEGRITY, image, problem, "nothing was written; report it with the run's config")
