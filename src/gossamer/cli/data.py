"""Check a data set, or draw a synthetic one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from gossamer.cli.output import Answer, Common, parse_size, progress
from gossamer.data.layouts import open_dataset
from gossamer.data.preparation.check import DatasetCheck, check_dataset
from gossamer.data.preparation.check_segmentation import MaskSummary
from gossamer.errors import ErrorCode, GossamerError
from gossamer.summary import list_some

_SHOWN = 12

app = App(name="data", help=__doc__, help_format="rst")


@app.command
def check(data: Path, /, *, seed: int = 0, strict: bool = False, common: Common = Common()) -> Answer:
    """Say what a data set holds, and find what is wrong with it.

    Recognises the layout; counts images, sizes, values and classes; finds files that cannot be read, labels that are
    missing, equal images within and across splits, and patients in two splits. Where there are masks, reads all of
    them and says what share of the pixels each class covers. Exits with 65 if anything must be mended.

    Example: gossamer data check chest/

    Args:
        data: a MedMNIST npz, a folder of class folders, a CSV manifest, or images with masks.
        seed: of splits that the data leave open.
        strict: count equal images across splits as something that must be mended.
        common: options of every verb.
    """
    dataset = open_dataset(data, seed=seed)
    with progress("reading images") as tick:
        found = check_dataset(dataset, tick)
    bad = bool(found.faults) or (strict and bool(found.duplicates_across))
    return Answer({**found.to_json(), "ok": not bad}, _text(found), ErrorCode.LABEL.exit_status if bad else 0)


@app.command
def phantom(
    out: Path,
    /,
    *,
    kind: Literal["chest", "abdomen"] = "chest",
    count: int = 480,
    image_size: str | None = None,
    seed: int = 0,
    common: Common = Common(),
) -> Answer:
    """Write a phantom: chest radiographs that are drawn, or slices of the abdomen with masks.

    Half of the patients of the chest have a nodule. The slices are magnetic resonance images of three organs, two days
    a case and twelve slices a day, with run lengths in a CSV.

    Example: gossamer data phantom phantom/ --kind chest --count 480 --image-size 64x64

    Args:
        out: folder to write; it must not exist.
        kind: what is drawn.
        count: number of images, at least 20; of slices, at least 72, rounded up to whole cases.
        image_size: rows x columns of an image; 64x64 for the chest and 80x96 for the abdomen if left out.
        seed: equal seeds give equal images.
        common: options of every verb.
    """
    least = _LEAST[kind]
    if count < least:
        problem = f"{count} is too few for three splits"
        raise GossamerError(ErrorCode.CONFIG, "--count", problem, f"use {least} or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GossamerError(ErrorCode.OUTPUT, out, "exists already", "give another folder")
    size = parse_size(image_size)
    if kind == "chest":
        from gossamer.data.synthetic.phantom import write_phantom

        write_phantom(out, count=count, size=size or (64, 64), seed=seed)
    else:
        from gossamer.data.synthetic.abdomen import DAYS, SLICES, write_abdomen

        cases = -(-count // (DAYS * SLICES))
        count = cases * DAYS * SLICES
        write_abdomen(out, cases=cases, size=size or (80, 96), seed=seed)
    return Answer({"folder": str(out), "images": count}, f"wrote {count} images to {out}")


_LEAST = {"chest": 20, "abdomen": 72}


def _text(found: DatasetCheck) -> Any:
    from rich.console import Group
    from rich.table import Table

    lines: list[Any] = [f"{found.source}: {found.layout} layout, {found.task}"]
    table = Table(box=None, pad_edge=False)
    table.add_column("split")
    classes = list(next(iter(found.splits.values())).classes) if found.splits else []
    for heading in ("images" if found.masks is None else "cases", "patients", *classes):
        table.add_column(heading, justify="right")
    for name, split in found.splits.items():
        patients = "unknown" if split.patients is None else str(split.patients)
        table.add_row(name, str(split.images), patients, *(str(split.classes[label]) for label in classes))
    if found.masks is not None:
        table.add_row("pixels", "", "", *(f"{share:.2%}" for share in found.masks.pixel_shares.values()))
    lines += [table, *_mask_lines(found.masks)]
    lines.append("sizes: " + _counted(found.sizes))
    lines.append("values: " + _counted(found.values))
    if found.value_range is not None:
        lines[-1] += f", from {found.value_range[0]:g} to {found.value_range[1]:g}"
    lines.append(
        f"equal images within a split: {len(found.duplicates_within)}, across splits: {len(found.duplicates_across)}"
    )
    lines += [f"  {' = '.join(group)}" for group in found.duplicates_across[:_SHOWN]]
    lines += _listed("note", found.notes)
    lines += _listed("fault", found.faults)
    count = len(found.faults)
    if count:
        lines.append("1 fault must be mended" if count == 1 else f"{count} faults must be mended")
    elif found.duplicates_across or found.notes:
        lines.append("nothing must be mended; what is noted above is worth a look")
    else:
        lines.append("nothing must be mended")
    return Group(*lines)


def _mask_lines(masks: MaskSummary | None) -> list[str]:
    if masks is None:
        return []
    lines = [f"slices: {masks.slices}"]
    if masks.shared:
        lines[0] += f"; {masks.shared:.2%} of their pixels belong to several classes"
    if masks.spacing_mm is not None:
        ranges = (f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in masks.spacing_mm)
        lines.append(f"spacing: {' x '.join(ranges)} mm")
    return lines


def _counted(counts: dict[str, int]) -> str:
    return list_some([f"{name} ({count})" for name, count in counts.items()], 5) or "none"


def _listed(word: str, items: tuple[Any, ...]) -> list[str]:
    more = [f"{word}: {len(items) - _SHOWN} more (see --json)"] if len(items) > _SHOWN else []
    return [f"{word}: {item}" for item in items[:_SHOWN]] + more
