"""``gossamer import-weights``: weights that others have published."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Answer, Common, parse_size
from gossamer.errors import ErrorCode, GossamerError, from_os_error

if TYPE_CHECKING:
    from rich.table import Table

    from gossamer.pretrained.load import Imported
    from gossamer.pretrained.report import Report

_LISTED = 6
"""Tensors of one fate that are named on the console; all of them stand in the file."""


def import_weights(
    file: Path,
    /,
    *,
    model: str,
    out: Path,
    attention: str | None = None,
    image_size: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    trust_pickle: Annotated[bool, Parameter(negative="")] = False,
    common: Common = Common(),
) -> Answer:
    """Read weights that others have published into one of our networks.

    Whose names the file has is recognised: ViT and DeiT of timm and Hugging Face, SOFT as released, TransUNet of its
    authors. Every tensor is used, adapted or left out for a stated reason; anything else is refused. OUT gets
    config.json, model.safetensors, and import.json with what became of each tensor.

    Example: gossamer import-weights model.safetensors --model vit_small --out vit_small_imagenet/

    Args:
        file: safetensors, or with --trust-pickle a pickled state dict.
        model: network that the weights are of; see gossamer models.
        out: a new or empty folder.
        attention: that of the published network; convert to another one after the import.
        image_size: ROWSxCOLUMNS; positions are resampled. The file's own if left out.
        num_classes: the classifier is left fresh where the file has another number. The file's own if left out.
        in_channels: channels of an image. The file's own if left out.
        trust_pickle: read a pickle, which can run code; only for files whose makers you trust.
        common: options of every verb.
    """
    require_training_packages("import-weights")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GossamerError(ErrorCode.OUTPUT, out, "exists and is not an empty folder", "give another --out")
    from gossamer.files import require_place

    require_place(out, parents=True)
    size = parse_size(image_size)
    from gossamer.pretrained.load import import_weights as load
    from gossamer.pretrained.source import read_source

    imported = load(
        read_source(file, trust_pickle=trust_pickle),
        model,
        attention=attention,
        image_size=size,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    data = _write(imported, model, out)
    return Answer({"out": str(out), **data}, _table(imported.report, model, out))


def _write(imported: Imported, model: str, out: Path) -> dict[str, object]:
    """Write the folder, all or nothing, and return the report."""
    from gossamer import __version__
    from gossamer.checkpoint import save_model
    from gossamer.files import write_json
    from gossamer.pretrained.load import SEED
    from gossamer.pretrained.report import REPORT

    config = imported.network.config
    fields = {key: getattr(config, key) for key in ("image_size", "in_channels", "num_classes")}
    data = {"gossamer": __version__, "model": model, **fields, "seed": SEED, **imported.report.to_json()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
            folder = Path(name) / "model"
            folder.mkdir()
            save_model(imported.network, folder)
            write_json(folder / REPORT, data)
            if out.exists():
                out.rmdir()
            folder.rename(out)
    except OSError as error:
        raise from_os_error(error, out) from error
    return data


def _table(report: Report, model: str, out: Path) -> Table:
    """Return how many tensors had each fate, and which of them were not simply used."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, caption_justify="left", title_justify="left")
    table.title = f"{report.source.file}: {report.family.title}, SHA-256 {report.source.sha256[:16]}"
    table.caption = f"wrote {model} to {out}, every tensor in {out / 'import.json'}"
    table.add_column("fate")
    table.add_column("tensors", justify="right")
    table.add_column("which", overflow="fold")
    counts = report.counts()
    for fate in ("used", "adapted", "left out"):
        table.add_row(fate, str(counts[fate]), _named([(e.name, e.how) for e in report.theirs if e.fate == fate], fate))
    table.add_row("fresh", str(counts["fresh"]), _named([(e.name, e.how) for e in report.ours if e.fate == "fresh"]))
    for note in report.notes:
        table.add_row("note", "", note)
    return table


def _named(entries: list[tuple[str, str]], fate: str = "") -> str:
    if fate == "used":
        return ""
    listed = [f"{name}: {how}" for name, how in entries[:_LISTED]]
    more = [f"and {len(entries) - _LISTED} more"] if len(entries) > _LISTED else []
    return "\n".join(listed + more)
