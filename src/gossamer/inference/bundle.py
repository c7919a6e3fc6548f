"""A bundle that was checked and is ready to run: images in, logits out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gossamer.data.transforms import Preprocessing
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.accept import AcceptedImages
from gossamer.inference.bundle_files import is_bundle, read_manifest, read_members
from gossamer.inference.decisions import Thresholds, thresholded_classes
from gossamer.inference.engines import Engine, EngineName, Shape, load_engine
from gossamer.inference.manifest import MANIFEST, MODEL, Manifest
from gossamer.inference.onnx_file import require_whole

__all__ = ["Bundle", "is_bundle", "open_bundle"]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A network with everything that stands between an image and its result.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        preprocessing: stored values to the network's input; refuses images that the network was not trained for.
        thresholds: of the labels of classification, where there are any.
        engine: what computes it.
        threads: of the processor; None where the engine chooses.
    """

    path: Path
    manifest: Manifest
    preprocessing: AcceptedImages
    thresholds: Thresholds | None
    engine: Engine
    threads: int | None

    @property
    def outputs(self) -> int:
        """Number of logits, of an image or of a pixel; the background is one of them unless classes overlap."""
        output = self.manifest.output
        background = self.manifest.task == "segment" and not output.multi_label
        return len(output.classes) + background

    def predict(self, windows: np.ndarray) -> np.ndarray:
        """Return the logits of ``windows``, float32.

        Args:
            windows: ``(batch, channels, rows, columns)``; neighbouring slices are channels.

        Returns:
            ``(batch, classes)`` of a classifier, ``(batch, classes, rows, columns)`` of a segmenter.

        Raises:
            GossamerError: ``E-GEOMETRY`` for windows that the network does not take, and what the engine raises.
        """
        spec, sides = self.manifest.input, windows.shape[2:]
        channels = spec.channels * spec.stack
        if windows.ndim != 4 or windows.shape[1] != channels or not spec.takes(sides):
            met = "x".join(map(str, windows.shape[1:]))
            problem = f"windows of {met}, the bundle takes {channels} channels of {spec.sides}"
            raise GossamerError(ErrorCode.GEOMETRY, self.path, problem, "use the preprocessing of the bundle")
        logits = self.engine.run(np.ascontiguousarray(windows, dtype=np.float32))
        wanted = (len(windows), self.outputs, *(sides if self.manifest.task == "segment" else ()))
        if logits.shape != wanted:
            problem = f"gives logits of {logits.shape}, {wanted} are wanted"
            raise GossamerError(ErrorCode.FORMAT, self.path / MODEL, problem, "export the bundle again")
        return logits


def open_bundle(folder: Path | str, *, engine: EngineName = "onnxruntime", threads: int | None = None) -> Bundle:
    """Check a bundle, down to each byte of its files, and make it ready to run.

    Args:
        folder: that ``gossamer export`` wrote.
        engine: what computes the network.
        threads: of the processor; the engine's own choice if left out.

    Raises:
        GossamerError: ``E-MISSING`` for a file that is not there, ``E-INTEGRITY`` for one that was changed or is too
            many, ``E-SECURITY`` for a name, a link or a model that leads out of the folder, ``E-UNSUPPORTED`` for
            a manifest of a later version, ``E-FORMAT``, ``E-CONFIG`` or ``E-VALUE`` where it does not fit together,
            ``E-CODEC`` for an engine that is not installed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    model = read_members(folder, manifest.members)
    require_whole(model, folder / MODEL)
    where, output = str(folder / MANIFEST), manifest.output
    steps = Preprocessing.from_json(manifest.preprocessing, where).steps
    thresholds = None
    if output.thresholds is not None:
        labels = thresholded_classes(output.classes, multi_label=output.multi_label)
        thresholds = Thresholds.from_json(output.thresholds, where, labels)
    loaded = load_engine(engine, model, folder / MODEL, threads)
    bundle = Bundle(folder, manifest, AcceptedImages(steps, manifest.input), thresholds, loaded, threads)
    _require_shapes(bundle)
    _require_size(bundle)
    return bundle


def _require_size(bundle: Bundle) -> None:
    """Raise where the preprocessing of a classifier ends at a size that the network does not take.

    A segmenter looks at images of any size through its windows.
    """
    spec, size = bundle.manifest.input, bundle.preprocessing.output_size
    if bundle.manifest.task == "classify" and size is not None and not spec.takes(size):
        problem = f"ends at {size[0]}x{size[1]} pixels, the network takes {spec.sides}"
        raise GossamerError(
            ErrorCode.CONFIG, f"{bundle.path / MANIFEST}: preprocessing", problem, "export the bundle again"
        )


def _require_shapes(bundle: Bundle) -> None:
    """Raise unless the network takes and gives what the manifest says."""
    spec, met = bundle.manifest.input, bundle.engine
    sides: Shape = (None, None) if spec.dynamic else spec.window
    takes: Shape = (None, spec.channels * spec.stack, *sides)
    gives: Shape = (None, bundle.outputs, *(sides if bundle.manifest.task == "segment" else ()))
    # What an output's axis is may be known only when it runs; an input of any size must say so.
    for verb, found, wanted, strict in (
        ("takes", met.input_shape, takes, True),
        ("gives", met.output_shape, gives, False),
    ):
        fits = len(found) == len(wanted)
        fits = fits and all(
            one in (None, two) or (two is None and not strict) for one, two in zip(found, wanted, strict=True)
        )
        if not fits:
            shapes = ["x".join("any" if side is None else str(side) for side in shape) for shape in (found, wanted)]
            problem = f"{verb} {shapes[0]}, the manifest says {shapes[1]}"
            raise GossamerError(ErrorCode.FORMAT, bundle.path / MODEL, problem, "export the bundle again")
