"""Bundles for tests: a convolution with known weights, in ONNX and in numpy."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as PillowImage

from gossamer.data.transforms import Channels, FitWithin, Pad, Preprocessing, ScaleIntensity, Standardize
from gossamer.files import sha256_hexdigest
from gossamer.inference.manifest import CARD, MANIFEST, MODEL, InputSpec, Manifest, Member, OutputSpec

WINDOW = (24, 40)


def kernel(outputs: int, channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return weights ``(outputs, channels, 3, 3)`` and bias of a convolution, float32."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(outputs, channels, 3, 3)).astype(np.float32)
    return weights, generator.normal(size=outputs).astype(np.float32)


def numpy_logits(images: np.ndarray, outputs: int, *, pooled: bool, seed: int = 0) -> np.ndarray:
    """Return the logits of the network of a bundle for ``images``, in float64."""
    weights, bias = (part.astype(np.float64) for part in kernel(outputs, images.shape[1], seed))
    around = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    found = np.einsum("bcyxij,ocij->boyx", sliding_window_view(around, (3, 3), axis=(2, 3)), weights)
    found += bias[:, None, None]
    return np.maximum(found, 0).mean(axis=(2, 3)) if pooled else found


def onnx_model(
    channels: int, outputs: int, *, pooled: bool, sides: Sequence[int | str], seed: int = 0, batch: int | str = "batch"
) -> Any:
    """Return the same network as a model of the package ``onnx``."""
    weights, bias = kernel(outputs, channels, seed)
    nodes = [helper.make_node("Conv", ["images", "weights", "bias"], ["maps"], pads=[1, 1, 1, 1])]
    if pooled:
        nodes += [
            helper.make_node("Relu", ["maps"], ["positive"]),
            helper.make_node("GlobalAveragePool", ["positive"], ["means"]),
            helper.make_node("Flatten", ["means"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["maps"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "made by hand",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, channels, *sides])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, outputs, *([] if pooled else sides)])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def write_bundle(folder: Path, manifest: Manifest, model: bytes) -> Path:
    """Write a bundle with its members listed in the manifest, and return its folder."""
    folder.mkdir(parents=True)
    contents = {MODEL: model, CARD: b"# Made by hand\n"}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    members = {name: Member(bytes=len(data), sha256=sha256_hexdigest(data)) for name, data in contents.items()}
    (folder / MANIFEST).write_text(json.dumps(replace(manifest, members=members).to_json()))
    return folder


def write_classifier(
    folder: Path,
    classes: tuple[str, ...] = ("clear", "nodule", "mass"),
    *,
    channels: int = 1,
    multi_label: bool = False,
    thresholds: dict[str, Any] | None = None,
    stored: str | None = "uint8",
    high: float = 255,
) -> Path:
    """Write a bundle that classifies images of any size, and return its folder."""
    rows, columns = WINDOW
    steps = (
        Channels(channels), ScaleIntensity(0, high, stored), FitWithin(rows, columns), Standardize(0.4, 0.2),
        Pad(rows, columns),
    )  # fmt: skip
    manifest = Manifest(
        gossamer="0", created="2025-01-01T00:00:00Z", task="classify", preset="by_hand", attention=None,
        input=InputSpec(channels=channels, window=WINDOW, dynamic=False, stored=stored),
        output=OutputSpec(classes=classes, multi_label=multi_label, thresholds=thresholds),
        preprocessing=Preprocessing(steps).to_json(), layout="class_folders", source={"seed": 3},
    )  # fmt: skip
    model = onnx_model(channels, len(classes), pooled=True, sides=WINDOW)
    return write_bundle(folder, manifest, model.SerializeToString())


def write_segmenter(
    folder: Path,
    classes: tuple[str, ...] = ("liver", "large bowel"),
    *,
    channels: int = 1,
    stack: int = 1,
    multi_label: bool = False,
    stored: str | None = None,
    layout: str = "paired_folders",
) -> Path:
    """Write a bundle that segments images or volumes, with windows of any multiple of 8, and return its folder."""
    manifest = Manifest(
        gossamer="0", created="2025-01-01T00:00:00Z", task="segment", preset="by_hand", attention=None,
        input=InputSpec(
            channels=channels, window=WINDOW, dynamic=True, multiple=8, stack=stack, overlap=0.25, stored=stored
        ),
        output=OutputSpec(classes=classes, multi_label=multi_label),
        preprocessing=Preprocessing((Channels(channels), Standardize(100.0, 50.0))).to_json(), layout=layout,
    )  # fmt: skip
    outputs = len(classes) + (not multi_label)
    model = onnx_model(channels * stack, outputs, pooled=False, sides=["rows", "columns"])
    return write_bundle(folder, manifest, model.SerializeToString())


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Write a folder of images and one of volumes into ``folder``, and return both."""
    pictures, volumes = folder / "pictures", folder / "volumes"
    for path in (pictures, volumes):
        path.mkdir()
    for number in range(5):
        generator = np.random.default_rng(number)
        PillowImage.fromarray(generator.integers(0, 256, (30 + number, 47), dtype=np.uint8)).save(
            pictures / f"{number}.png"
        )
        if number < 2:
            array = generator.integers(0, 256, (37, 45, 6 + number)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.5, 1.25, 4, 1])), volumes / f"{number}.nii.gz")
    return pictures, volumes


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of all files of a folder, by name; gzip files are decompressed."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        file.name if path.is_dir() else "": gzip.decompress(file.read_bytes())
        if file.suffix == ".gz"
        else file.read_bytes()
        for file in files
    }
