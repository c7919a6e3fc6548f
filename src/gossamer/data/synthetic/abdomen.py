"""A phantom of abdominal magnetic resonance slices with three organs whose masks partly overlap.

The demo and the tests use it as free data, in the layout of the UW-Madison GI Tract slices (``rle_csv``): 16 bits,
several days per case, one row for each class and slice. Organs are tubes and sacs that change smoothly over the slices
and move from day to day. Liver, kidneys, spine and vessels have the brightness of organs, and each case has its own
scale and a bias field, so brightness alone tells little. Every slice is a function of the seed, its case, day and
number.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from gossamer.data.io import rle
from gossamer.data.synthetic.phantom import draw_texture, soft_step
from gossamer.files import replace_atomically, write_text

CLASSES = ("large_bowel", "small_bowel", "stomach")
WIDTH_MM = 400.0
DAYS, SLICES = 2, 12

_FAT, _SKIN, _MUSCLE, _WALL = 0.66, 0.85, 0.3, 0.38
_LAST = 0.95
"""End of the organs, as a share of the slices."""
_WALL_DEPTH, _DRAWN_OUTSIDE, _NOISE = 0.03, 0.02, 0.025


@dataclass(frozen=True)
class AbdomenSlice:
    """One slice.

    Attributes:
        picture: Pixels, uint16 ``(rows, columns)``.
        masks: Masks in the order of ``CLASSES``, bool ``(3, rows, columns)``.
    """

    picture: np.ndarray
    masks: np.ndarray


def draw_study(seed: int, case: int, day: int, *, slices: int, size: tuple[int, int]) -> list[AbdomenSlice]:
    """Return the slices of one day of one case, from the dome of the liver down.

    Args:
        seed: Seed of the whole phantom.
        case: Number of the case; equal numbers give equal bodies.
        day: Number of the day; contents and positions of the organs change from day to day.
        slices: Number of slices; the first and the last ones show no organ.
        size: Size of a slice, ``(rows, columns)``.
    """
    rows, columns = size
    y, x = np.meshgrid(
        2 * (np.arange(rows) + 0.5) / rows - 1, 2 * (np.arange(columns) + 0.5) / columns - 1, indexing="ij"
    )
    return [_draw_slice(seed, case, day, number, (number + 0.5) / slices, y, x) for number in range(slices)]


def write_abdomen(
    folder: Path,
    *,
    cases: int = 20,
    days: int = DAYS,
    slices: int = SLICES,
    size: tuple[int, int] = (80, 96),
    seed: int = 0,
) -> Path:
    """Write ``cases * days * slices`` 16-bit PNG slices and a ``train.csv`` of run lengths; return ``folder``.

    Raises:
        GossamerError: ``E-NOSPACE`` or ``E-OUTPUT``.
    """
    spacing = f"{WIDTH_MM / size[1]:.2f}"
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "class", "segmentation"])
    for case in range(1, cases + 1):
        for day in _day_numbers(seed, case, days):
            study = f"case{case}_day{day}"
            scans = folder / "train" / f"case{case}" / study / "scans"
            scans.mkdir(parents=True, exist_ok=True)
            for number, drawn in enumerate(draw_study(seed, case, day, slices=slices, size=size), start=1):
                name = f"slice_{number:04d}_{size[1]}_{size[0]}_{spacing}_{spacing}.png"
                with replace_atomically(scans / name) as temporary:
                    PillowImage.fromarray(drawn.picture).save(temporary, format="PNG")
                for label, mask in zip(CLASSES, drawn.masks, strict=True):
                    writer.writerow([f"{study}_slice_{number:04d}", label, rle.encode_rle(mask, "rows")])
    write_text(folder / "train.csv", table.getvalue())
    if size[0] == size[1]:
        write_text(folder / "rle_order.txt", "rows\n")  # a square picture does not tell the order
    return folder


def _day_numbers(seed: int, case: int, days: int) -> list[int]:
    """Return ascending numbers of days from 0; visits are days apart."""
    gaps = np.random.default_rng([seed, case, 1]).integers(1, 9, days)
    return [int(day) for day in np.cumsum(gaps) - gaps[0]]


def _draw_slice(seed: int, case: int, day: int, number: int, z: float, y: np.ndarray, x: np.ndarray) -> AbdomenSlice:
    body, visit = np.random.default_rng([seed, case, 2]), np.random.default_rng([seed, case, 3, day])
    outline, inside, picture = _draw_body(body, y, x, z)
    picture = _draw_bystanders(body, y, x, z, picture)
    masks = []
    for field, content in (
        _draw_large_bowel(body, visit, y, x, z),
        _draw_small_bowel(body, visit, y, x, z),
        _draw_stomach(body, visit, y, x, z),
    ):
        field = np.minimum(field, inside)
        for depth, value in ((0.0, _WALL), (_WALL_DEPTH, content)):
            there = soft_step(field - depth, 0.008)
            picture = picture * (1 - there) + there * value
        # Outlines are drawn slightly outside the wall of an organ, so that neighbours share pixels.
        masks.append(field > -_DRAWN_OUTSIDE)
    noise = np.random.default_rng([seed, case, 4, day, number])
    coarse = draw_texture(np.random.default_rng([seed, case, 5, day]), y.shape)
    picture = picture + 0.03 * outline * draw_texture(noise, y.shape)
    picture *= np.exp(0.18 * coarse / np.abs(coarse).max() + body.normal(0, 0.15) * x + body.normal(0, 0.15) * y)
    real, imaginary = noise.normal(0, _NOISE, (2, *y.shape))  # the magnitude of two noisy channels, as in a scanner
    picture = np.hypot(picture * outline + real, imaginary)
    scale = float(np.exp(np.random.default_rng([seed, case, 6, day]).uniform(np.log(600), np.log(6000))))
    return AbdomenSlice(np.round(np.clip(picture * scale, 0, 65535)).astype(np.uint16), np.stack(masks))


def _ellipse_field(y: np.ndarray, x: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Return a field that is 1 at the centre, 0 on the ellipse and negative outside."""
    return 1 - np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])


def _draw_body(
    body: np.random.Generator, y: np.ndarray, x: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the outline, the field of the cavity inside the muscles, and the picture of both: skin, fat, muscle."""
    height, width = 0.72 + body.normal(0, 0.03), 0.86 + body.normal(0, 0.03)
    taper = 1 - 0.08 * (1 - z) ** 2
    fat = 0.13 + abs(body.normal(0, 0.03))
    skin = _ellipse_field(y, x, (0.0, 0.0), (height * taper, width * taper))
    outline = soft_step(skin, 0.015)
    cavity = skin - fat
    muscle = soft_step(cavity, 0.02)
    inner = soft_step(cavity - 0.09, 0.02)
    picture = _SKIN * outline * (1 - muscle) + _MUSCLE * muscle * (1 - inner) + _FAT * inner
    return outline, cavity - 0.1, picture


def _draw_bystanders(
    body: np.random.Generator, y: np.ndarray, x: np.ndarray, z: float, picture: np.ndarray
) -> np.ndarray:
    """Return the picture with spine, liver, kidneys and vessels, which have the brightness of organs."""
    spine = (0.36 + body.normal(0, 0.02), body.normal(0, 0.02))
    liver = np.sqrt(max(0.0, 1 - (z / 0.55) ** 2))
    shapes = [
        (spine, (0.13, 0.13), 0.35),
        ((spine[0] + 0.14, spine[1]), (0.05, 0.06), 0.75),
        ((spine[0] - 0.19, spine[1] - 0.06), (0.05, 0.05), 0.85),
        ((spine[0] - 0.19, spine[1] + 0.07), (0.045, 0.05), 0.2),
        ((-0.08 + body.normal(0, 0.03), -0.36), (0.42 * liver, 0.34 * liver), 0.5 + body.normal(0, 0.03)),
    ]
    for side in (-1, 1):
        reach = np.sqrt(max(0.0, 1 - ((z - 0.5) / 0.28) ** 2))
        shapes.append(((0.26, side * 0.36 + body.normal(0, 0.01)), (0.15 * reach, 0.10 * reach), 0.78))
    for centre, radii, value in shapes:
        if min(radii) > 0.01:
            there = soft_step(_ellipse_field(y, x, centre, radii), 0.08)
            picture = picture * (1 - there) + there * value
    return picture


def _sac_width(z: float, low: float, high: float) -> float:
    """Return the width at ``z`` of a sac that reaches from ``low`` to ``high``: 1 in its middle, 0 outside."""
    return float(np.sqrt(max(0.0, 1 - ((2 * z - low - high) / (high - low)) ** 2)))


def _tube_field(y: np.ndarray, x: np.ndarray, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Return the depth below the wall of a round tube cut across, in units of the grid; negative outside."""
    return radius - np.hypot(y - centre[0], x - centre[1])


def _draw_content(visit: np.random.Generator, y: np.ndarray, level: float, gas: float) -> np.ndarray:
    """Return the content of an organ: fluid, and dark gas above its level, since the patient is on the back."""
    fluid = visit.uniform(0.5, 0.95)
    return fluid + (gas - fluid) * soft_step(level - y, 0.02)


def _draw_stomach(
    body: np.random.Generator, visit: np.random.Generator, y: np.ndarray, x: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    size = (0.24 + body.normal(0, 0.02)) * visit.uniform(0.8, 1.15)
    cy, cx = -0.16 + visit.normal(0, 0.03), 0.33 + visit.normal(0, 0.03)
    tilt = 0.5 + visit.normal(0, 0.15)
    level, gas = cy - size * visit.uniform(0.1, 0.5), visit.uniform(0.03, 0.12)
    content = _draw_content(visit, y, level, gas)
    width = _sac_width(z, 0.1, 0.62 + visit.normal(0, 0.02))
    if width < 0.15:
        return np.full_like(y, -1.0), content
    cx -= 0.35 * max(0.0, z - 0.3)
    along = (x - cx) * np.cos(tilt) - (y - cy) * np.sin(tilt)
    across = (x - cx) * np.sin(tilt) + (y - cy) * np.cos(tilt) + 0.9 * along**2
    radius = size * width
    return radius * 0.75 * _ellipse_field(across, along, (0.0, 0.0), (radius * 0.75, radius * 1.2)), content


def _draw_large_bowel(
    body: np.random.Generator, visit: np.random.Generator, y: np.ndarray, x: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ascending and descending parts as tubes at the sides, and the transverse part in front."""
    radius, phase = 0.115 + body.normal(0, 0.01), visit.uniform(0, 2 * np.pi)
    top = 0.38 + visit.normal(0, 0.03)
    sag = 0.10 + abs(visit.normal(0, 0.03))
    field = np.full_like(y, -1.0)
    haustra = 1 + 0.15 * np.sin(14 * np.pi * z + phase)
    for side, high in ((-1, top), (1, top - 0.1)):
        reach = _sac_width(z, high - 0.06, _LAST) ** 0.4
        centre = (0.12 + visit.normal(0, 0.02) - 0.1 * z, side * (0.52 + 0.03 * np.sin(5 * z + phase)))
        if reach > 0.3:
            field = np.maximum(field, _tube_field(y, x, centre, radius * haustra * reach))
    middle = top + 0.06
    reach = _sac_width(z, middle - 0.14, middle + 0.14) ** 0.5
    if reach > 0.2:
        bow = -0.34 + sag * (1 - (x / 0.5) ** 2)
        ring = 1 + 0.15 * np.sin(22 * x + phase)
        band = radius * reach * ring * 0.85 - np.abs(y - bow)
        field = np.maximum(field, np.minimum(band, 0.52 - np.abs(x)))
    mottled = 0.5 + 0.22 * np.sin(31 * x + 3 * phase) * np.sin(27 * y + phase + 9 * z)
    gas = soft_step(-0.3 - y, 0.03) * visit.uniform(0.3, 1.0)
    return field, mottled * (1 - gas) + 0.06 * gas


def _draw_small_bowel(
    body: np.random.Generator, visit: np.random.Generator, y: np.ndarray, x: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return loops that wander through the middle from slice to slice."""
    loops = int(body.integers(7, 11))
    field = np.full_like(y, -1.0)
    content = np.full_like(y, 0.7)
    for _ in range(loops):
        low = visit.uniform(0.36, 0.62)
        reach = _sac_width(z, low, min(_LAST, low + visit.uniform(0.22, 0.36))) ** 0.5
        angle, turn, away = visit.uniform(0, 2 * np.pi), visit.normal(0, 5.0), np.sqrt(visit.uniform(0.02, 1))
        radius, bright = visit.uniform(0.07, 0.105), visit.uniform(0.4, 0.95)
        if reach < 0.3:
            continue
        bearing = angle + turn * (z - low)
        centre = (-0.1 + 0.22 * away * np.sin(bearing), 0.36 * away * np.cos(bearing))
        stretch = 1 + 0.5 * np.abs(np.sin(2 * bearing))
        loop = _tube_field(y, (x - centre[1]) / stretch + centre[1], centre, radius * reach)
        content = np.where(loop > field, bright, content)
        field = np.maximum(field, loop)
    return field, content
