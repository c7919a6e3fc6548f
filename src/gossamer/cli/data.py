"""Check a data set, or draw images to try everything with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from gossamer.cli.output import Answer, Common
from gossamer.errors import ErrorCode
from gossamer.summary import Result

app = App(name="data", help=__doc__, help_format="rst")


@app.command
def check(data: Path, /, *, seed: int = 0, strict: bool = False, common: Common = Common()) -> Answer:
    """Report the contents of a data set, and what is wrong with it.

    Recognizes the layout; counts images, sizes, values and classes; finds files that cannot be read, missing labels,
    equal images within and across splits, and patients in several splits. Masks are read too, and the share of the
    pixels that each class covers is reported. Exits with status 65 if problems were found.

    Example: gossamer data check chest/

    Args:
        data: MedMNIST npz file, folder of class folders, CSV manifest, or images with masks.
        seed: Seed of the splits that the data do not state.
        strict: Count equal images across splits as a problem.
        common: Options of every verb.
    """
    from gossamer.api.check_data import check_data

    found = check_data(data, seed=seed, strict=strict, progress=True)
    return Answer(found.to_dict(), found.summary_tables(), 0 if found.ok else ErrorCode.LABEL.exit_status)


@app.command
def phantom(
    out: Path,
    /,
    *,
    kind: Literal["chest", "abdomen"] = "chest",
    count: int = 480,
    image_size: str | None = None,
    nodule_radius: Annotated[tuple[float, float], Parameter(negative="")] = (0.05, 0.085),
    seed: int = 0,
    common: Common = Common(),
) -> Result:
    """Draw chest radiographs with labels, or magnetic resonance slices of the abdomen with masks.

    Half of the patients of the chest have a nodule. The slices show three organs, two days a case and twelve slices a
    day, with run lengths in a CSV file.

    Example: gossamer data phantom phantom/ --kind chest --count 480 --image-size 64x64

    Args:
        out: Folder to write, which does not exist or is empty.
        kind: Images to draw.
        count: Number of images, at least 20; for the abdomen the number of slices, at least 72, rounded up to whole
            cases.
        image_size: Rows x columns of an image (default: 64x64 for the chest, 80x96 for the abdomen).
        nodule_radius: Smallest and largest radius of the nodules of the chest, as fractions of the side of an image.
        seed: Seed of the images; equal seeds give equal images.
        common: Options of every verb.
    """
    from gossamer.api.draw_phantom import draw_phantom

    return draw_phantom(out, kind=kind, count=count, image_size=image_size, nodule_radius=nodule_radius, seed=seed)
