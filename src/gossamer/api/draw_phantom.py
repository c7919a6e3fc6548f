"""``gossamer.draw_phantom``: images drawn by a program, as data to try everything with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gossamer.arguments import checked_arguments, parse_size
from gossamer.checks import require
from gossamer.data.synthetic.abdomen import DAYS, SLICES, write_abdomen
from gossamer.data.synthetic.phantom import NODULE_RADIUS, write_phantom
from gossamer.files import require_free_folder
from gossamer.summary import Result, SummaryTable

_FEWEST = {"chest": 20, "abdomen": 72}
_SIZES = {"chest": (64, 64), "abdomen": (80, 96)}


@dataclass(frozen=True, repr=False)
class DrawnPhantom(Result):
    """Phantom that was written.

    Attributes:
        folder: Folder with the images and their labels.
        images: Number of images.
    """

    folder: Path
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return the phantom as JSON values."""
        return {"folder": str(self.folder), "images": self.images}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the number of images and the folder."""
        return (SummaryTable("", ("", ""), (("images", str(self.images)), ("folder", str(self.folder)))),)


@checked_arguments
def draw_phantom(
    out: str | Path,
    *,
    kind: Literal["chest", "abdomen"] = "chest",
    count: int = 480,
    image_size: str | tuple[int, int] | None = None,
    nodule_radius: tuple[float, float] = NODULE_RADIUS,
    seed: int = 0,
) -> DrawnPhantom:
    """Draw chest radiographs with labels, or magnetic resonance slices of the abdomen with masks.

    Half of the patients of the chest have a nodule. The slices show three organs, two days a case and twelve slices a
    day, with run lengths in a CSV file.

    Args:
        out: Folder to write, which does not exist or is empty.
        kind: Images to draw: ``chest`` or ``abdomen`` (default: ``chest``).
        count: Number of images, at least 20; for the abdomen the number of slices, at least 72, rounded up to whole
            cases (default: 480).
        image_size: Rows x columns of an image (default: 64x64 for the chest, 80x96 for the abdomen).
        nodule_radius: Smallest and largest radius of the nodules of the chest, as fractions of the side of an image
            (default: 0.05 and 0.085).
        seed: Seed of the images; equal seeds give equal images (default: 0).

    Raises:
        GossamerError: ``E-CONFIG`` for another kind, too few images, a wrong size or radius; ``E-OUTPUT`` for a folder
            that is not empty; ``E-NOSPACE``.
    """
    out = Path(out)
    require(kind in _FEWEST, "kind", f"{kind!r} is not a phantom", f"use one of {', '.join(_FEWEST)}")
    fewest = _FEWEST[kind]
    require(count >= fewest, "count", f"{count} is too few for three splits", f"use {fewest} or more")
    require(seed >= 0, "seed", f"{seed} is negative", "use 0 or more")
    numbers = len(nodule_radius) == 2 and all(isinstance(radius, int | float) for radius in nodule_radius)
    require(numbers, "nodule_radius", f"{nodule_radius} is not a range", "use two numbers, such as (0.05, 0.085)")
    least, most = nodule_radius
    require(0 < least <= most < 0.5, "nodule_radius", f"{least:g} to {most:g} is not in (0, 0.5)", "use 0.05 and 0.085")
    require_free_folder(out)
    size = parse_size(image_size) or _SIZES[kind]
    require(min(size) >= 8, "image_size", f"{size[0]}x{size[1]} is too small", "use 8x8 or more")
    if kind == "chest":
        write_phantom(out, count=count, size=size, seed=seed, nodule_radius=nodule_radius)
    else:
        cases = -(-count // (DAYS * SLICES))
        count = cases * DAYS * SLICES
        write_abdomen(out, cases=cases, size=size, seed=seed)
    return DrawnPhantom(out, count)
