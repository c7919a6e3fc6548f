"""A phantom of chest radiographs: lung fields with ribs and vessels, half of them with a nodule.

The demo and the tests use it as free data. The two classes have the same brightness, texture, ribs and vessels; only a
faint round shadow inside a lung field tells them apart. Every image is a function of the seed and its number alone.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from gossamer.data.dataset import Sample
from gossamer.data.split import assign_splits
from gossamer.files import replace_atomically, write_text

CLASSES = ("clear", "nodule")
GREY_LEVELS = 4095
NODULE_RADIUS = (0.05, 0.085)
"""Smallest and largest radius, as a share of the side of an image."""


def draw_chest(
    seed: int,
    number: int,
    *,
    nodule: bool,
    size: tuple[int, int],
    nodule_radius: tuple[float, float] = NODULE_RADIUS,
) -> np.ndarray:
    """Return one radiograph as uint16 ``(rows, columns)`` with values of 12 bits.

    Args:
        seed: Seed of the whole phantom.
        number: Number of the image; equal numbers give equal anatomy with and without a nodule.
        nodule: Whether one of the lungs has a nodule.
        size: Size of the image, ``(rows, columns)``.
        nodule_radius: Smallest and largest radius, as a share of the side of the image (default: 0.05 to 0.085).
    """
    anatomy, lesion = (np.random.default_rng([seed, number, part]) for part in (0, 1))
    rows, columns = size
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    centres = [(0.52 + anatomy.normal(0, 0.02), 0.5 + side * (0.22 + anatomy.normal(0, 0.012))) for side in (-1, 1)]
    radii = [(0.36 + anatomy.normal(0, 0.02), 0.165 + anatomy.normal(0, 0.012)) for _ in range(2)]
    lung = np.zeros(size)
    for (cy, cx), (ry, rx) in zip(centres, radii, strict=True):
        lung = np.maximum(lung, soft_step(1 - np.hypot((y - cy) / ry, (x - cx) / rx), 0.06))
    heart = soft_step(1 - np.hypot((y - 0.66) / 0.2, (x - 0.54 - anatomy.normal(0, 0.015)) / 0.16), 0.08)
    picture = 0.72 - 0.42 * lung + 0.22 * heart * lung
    picture += 0.07 * _draw_ribs(anatomy, y, x) * (0.4 + 0.6 * lung)
    picture += 0.10 * _draw_vessels(anatomy, y, x, centres) * lung
    picture += 0.05 * draw_texture(anatomy, size)
    if nodule:
        picture += _draw_nodule(lesion, y, x, centres, radii, nodule_radius)
    picture = anatomy.normal(0.0, 0.03) + picture * np.exp(anatomy.normal(0.0, 0.08))
    picture += anatomy.normal(0.0, 0.02, size)
    return np.round(np.clip(picture, 0.0, 1.0) * GREY_LEVELS).astype(np.uint16)


def write_phantom(
    folder: Path,
    *,
    count: int = 480,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    nodule_radius: tuple[float, float] = NODULE_RADIUS,
) -> Path:
    """Write ``count`` 16-bit PNG images and a ``manifest.csv`` with patients and splits; return ``folder``.

    A patient has one to three images of one class. Half of the patients have a nodule.

    Raises:
        GossamerError: ``E-NOSPACE`` or ``E-OUTPUT``.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, 2])
    samples: list[Sample] = []
    patient = 0
    while len(samples) < count:
        for _ in range(min(int(generator.integers(1, 4)), count - len(samples))):
            samples.append(Sample(f"images/{len(samples):05d}.png", (patient % 2,), "", f"P{patient:04d}"))
        patient += 1
    for number, sample in enumerate(samples):
        array = draw_chest(seed, number, nodule=bool(sample.labels[0]), size=size, nodule_radius=nodule_radius)
        with replace_atomically(folder / sample.id) as temporary:
            PillowImage.fromarray(array).save(temporary, format="PNG")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "label", "patient", "split"])
    for sample in sorted(assign_splits(samples, seed), key=lambda sample: sample.id):
        writer.writerow([sample.id, CLASSES[sample.labels[0]], sample.patient, sample.split])
    write_text(folder / "manifest.csv", table.getvalue())
    return folder


def soft_step(value: np.ndarray, width: float) -> np.ndarray:
    """Return 0 far below 0 and 1 far above it, with a slope of 1 / (4 ``width``) at 0."""
    return 1 / (1 + np.exp(-np.clip(value / width, -40, 40)))


def _draw_ribs(generator: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    phase, slope, number = generator.uniform(0, 1), generator.normal(0.55, 0.08), generator.normal(8.5, 0.4)
    arch = y + slope * (np.abs(x - 0.5) - 0.2) ** 2
    return np.maximum(0.0, np.cos(2 * np.pi * (number * arch + phase))) ** 2


def _draw_vessels(
    generator: np.random.Generator, y: np.ndarray, x: np.ndarray, centres: list[tuple[float, float]]
) -> np.ndarray:
    """Return thin bright lines that run outwards from the root of each lung."""
    lines = np.zeros_like(y)
    for side, (cy, cx) in zip((1, -1), centres, strict=True):
        root_y, root_x = cy, cx + side * 0.1
        for _ in range(5):
            angle = generator.uniform(-1.2, 1.2)
            direction = (np.sin(angle), -side * np.cos(angle))
            along = (y - root_y) * direction[0] + (x - root_x) * direction[1]
            bend = generator.normal(0, 0.6)
            across = (y - root_y) * direction[1] - (x - root_x) * direction[0] + bend * along**2
            width = 0.012 * np.clip(1 - along / 0.3, 0.25, 1)
            lines = np.maximum(lines, np.exp(-((across / width) ** 2)) * ((along > 0) & (along < 0.3)))
    return lines


def draw_texture(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return noise of standard deviation 1 whose power falls with the square of the frequency."""
    rows, columns = size
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None] * rows, np.fft.fftfreq(columns)[None, :] * columns)
    spectrum = np.fft.fft2(generator.normal(size=size)) / np.maximum(frequency, 1.0)
    noise = np.fft.ifft2(spectrum).real
    return (noise - noise.mean()) / noise.std()


def _draw_nodule(
    generator: np.random.Generator,
    y: np.ndarray,
    x: np.ndarray,
    centres: list[tuple[float, float]],
    radii: list[tuple[float, float]],
    bounds: tuple[float, float],
) -> np.ndarray:
    side = int(generator.integers(2))
    angle, reach = generator.uniform(0, 2 * np.pi), 0.65 * np.sqrt(generator.uniform())
    cy = centres[side][0] + reach * radii[side][0] * np.sin(angle)
    cx = centres[side][1] + reach * radii[side][1] * np.cos(angle)
    radius, contrast = generator.uniform(*bounds), generator.uniform(0.2, 0.32)
    return contrast * soft_step(1 - np.hypot(y - cy, x - cx) / radius, 0.15)
