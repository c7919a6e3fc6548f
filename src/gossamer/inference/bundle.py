"""A bundle that was checked: its folder, its manifest and its network in an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle_files import is_bundle, read_manifest, read_members
from gossamer.inference.engines import Engine, EngineName, Shape, load_engine
from gossamer.inference.manifest import MANIFEST, MODEL, Manifest
from gossamer.inference.onnx_file import require_complete

__all__ = ["Bundle", "is_bundle", "open_bundle"]


@dataclass(frozen=True, eq=False)
class Bundle:
    """The description of a bundle and its network; ``gossamer.load`` makes a predictor of it.

    Attributes:
        path: Folder of the bundle.
        manifest: Content of its manifest.
        engine: Engine that computes its network.
        threads: Number of CPU threads of the engine; None for the engine's own choice.
    """

    path: Path
    manifest: Manifest
    engine: Engine
    threads: int | None

    @property
    def outputs(self) -> int:
        """Number of logits of an image or a pixel; the background is one of them unless classes overlap."""
        output = self.manifest.output
        return len(output.classes) + (self.manifest.labels_pixels and not output.multi_label)

    @property
    def facts(self) -> dict[str, Any]:
        """Path, engine and number of threads as data."""
        return {
            "bundle": str(self.path),
            "engine": self.engine.name,
            "engine_version": self.engine.version,
            "threads": self.threads,
        }

    def read_seed(self) -> int:
        """Return the seed of the training; 0 where the manifest does not state it.

        Raises:
            GossamerError: ``E-CONFIG`` where it is not a number.
        """
        seed = self.manifest.source.get("seed", 0)
        if not isinstance(seed, int):
            problem = f"the seed {seed!r} is not a whole number"
            raise GossamerError(ErrorCode.CONFIG, self.path, problem, "export the bundle again")
        return seed

    def compute_logits(self, windows: np.ndarray) -> np.ndarray:
        """Return the logits of ``windows``, float32.

        Args:
            windows: Array ``(batch, channels, rows, columns)``; neighbouring slices are channels.

        Returns:
            Array ``(batch, classes)`` of a classifier, ``(batch, classes, rows, columns)`` of a segmenter.

        Raises:
            GossamerError: ``E-GEOMETRY`` for windows of a size that the network does not take, and what the engine
                raises.
        """
        spec, sides = self.manifest.input, windows.shape[2:]
        channels = spec.channels * spec.stack
        if windows.ndim != 4 or windows.shape[1] != channels or not spec.takes(sides):
            found = "x".join(map(str, windows.shape[1:]))
            problem = f"windows of {found}, the bundle takes {channels} channels of {spec.sides}"
            raise GossamerError(ErrorCode.GEOMETRY, self.path, problem, "use the preprocessing of the bundle")
        logits = self.engine.run(np.ascontiguousarray(windows, dtype=np.float32))
        expected = (len(windows), self.outputs, *(sides if self.manifest.labels_pixels else ()))
        if logits.shape != expected:
            problem = f"gives logits of shape {logits.shape}, expected {expected}"
            raise GossamerError(ErrorCode.FORMAT, self.path / MODEL, problem, "export the bundle again")
        return logits


def open_bundle(folder: Path | str, *, engine: EngineName = "onnxruntime", threads: int | None = None) -> Bundle:
    """Check a bundle, down to each byte of its files, and load its network into an engine.

    Args:
        folder: Folder that ``gossamer export`` or ``gossamer quantize`` wrote.
        engine: Name of the engine that computes the network.
        threads: Number of CPU threads (default: chosen by the engine).

    Raises:
        GossamerError: ``E-MISSING`` for a missing file, ``E-INTEGRITY`` for a changed or unlisted one, ``E-SECURITY``
            for a name, a link or a model that leads out of the folder, ``E-UNSUPPORTED`` for a manifest of a later
            version, ``E-FORMAT``, ``E-CONFIG`` or ``E-VALUE`` where the parts do not fit together, ``E-CODEC`` for an
            engine that is not installed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    model = read_members(folder, manifest.members)
    require_complete(model, folder / MODEL)
    size = manifest.read_preprocessing(folder / MANIFEST).output_size
    manifest.read_thresholds(folder / MANIFEST)
    bundle = Bundle(folder, manifest, load_engine(engine, model, folder / MODEL, threads), threads)
    _require_shapes(bundle)
    _require_size(bundle, size)
    return bundle


def _require_size(bundle: Bundle, size: tuple[int, int] | None) -> None:
    """Raise if the preprocessing of a classifier ends at a size that the network does not take.

    A segmenter looks at images of any size through its windows.
    """
    spec = bundle.manifest.input
    if not bundle.manifest.labels_pixels and size is not None and not spec.takes(size):
        where = f"{bundle.path / MANIFEST}: preprocessing"
        problem = f"ends at {size[0]}x{size[1]} pixels, the network takes {spec.sides}"
        raise GossamerError(ErrorCode.CONFIG, where, problem, "export the bundle again")


def _require_shapes(bundle: Bundle) -> None:
    """Raise unless the network's input and output have the shapes that the manifest states."""
    spec, engine = bundle.manifest.input, bundle.engine
    sides: Shape = (None, None) if spec.dynamic else spec.window
    takes: Shape = (None, spec.channels * spec.stack, *sides)
    gives: Shape = (None, bundle.outputs, *(sides if bundle.manifest.labels_pixels else ()))
    # An axis of the output may be known only when the network runs; an input of any size must be declared as such.
    for verb, found, wanted, strict in (
        ("takes", engine.input_shape, takes, True),
        ("returns", engine.output_shape, gives, False),
    ):
        fits = len(found) == len(wanted)
        fits = fits and all(
            one in (None, two) or (two is None and not strict) for one, two in zip(found, wanted, strict=True)
        )
        if not fits:
            shapes = ["x".join("any" if side is None else str(side) for side in shape) for shape in (found, wanted)]
            problem = f"{verb} {shapes[0]}, the manifest says {shapes[1]}"
            raise GossamerError(ErrorCode.FORMAT, bundle.path / MODEL, problem, "export the bundle again")
