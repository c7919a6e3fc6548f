"""``gossamer.import_weights``: published weights as the weights of a network of ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer import __version__
from gossamer.api.environment import require_training_packages
from gossamer.arguments import checked_arguments, parse_size
from gossamer.checkpoint import save_model
from gossamer.files import new_folder, require_free_folder, require_place, write_json
from gossamer.nn.models import NetworkConfig
from gossamer.pretrained.import_account import REPORT, ImportAccount
from gossamer.pretrained.load import SEED, find_preset, load_published
from gossamer.pretrained.published_file import read_published
from gossamer.summary import Result, SummaryTable

SHOWN = 6
"""Number of tensors of one fate that a table names; ``import.json`` names all of them."""


@dataclass(frozen=True, repr=False)
class ImportReport(Result):
    """Result of ``import_weights``.

    Attributes:
        out: Folder of the network.
        model: Name of the preset.
        network: Config of the network.
        account: Account of every tensor of the file and of the network.
    """

    out: Path
    model: str
    network: NetworkConfig
    account: ImportAccount

    def to_dict(self) -> dict[str, Any]:
        """Return the report as data: the folder, and the content of ``import.json``."""
        return {"out": str(self.out), **self.to_json()}

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``import.json``."""
        fields = {key: getattr(self.network, key) for key in ("image_size", "in_channels", "num_classes")}
        return {"gossamer": __version__, "model": self.model, **fields, "seed": SEED, **self.account.to_json()}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return one table: the number of tensors with each fate, and the tensors that were not simply used."""
        account, counts = self.account, self.account.counts()
        rows = [("used", str(counts["used"]), "")]
        for fate in ("adapted", "left out"):
            entries = ((entry.name, entry.how) for entry in account.theirs if entry.fate == fate)
            rows += _list_tensors(fate, counts[fate], entries)
        fresh = ((entry.name, entry.how) for entry in account.ours if entry.fate == "fresh")
        rows += _list_tensors("fresh", counts["fresh"], fresh)
        rows += [("note", "", note) for note in account.notes]
        title = f"{account.source.file}: {account.family.title}, SHA-256 {account.source.sha256[:16]}"
        caption = f"wrote {self.model} to {self.out}; {self.out / REPORT} lists every tensor"
        return (SummaryTable(title, ("fate", "tensors", "names"), tuple(rows), caption, text_columns=(0, 2)),)


@checked_arguments
def import_weights(
    source: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    attention: str | None = None,
    image_size: str | tuple[int, int] | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    trust_pickle: bool = False,
) -> ImportReport:
    """Write a network with published weights: ViT and DeiT of timm and Hugging Face, SOFT, TransUNet.

    The names in the file decide which weights they are. Every tensor is used, adapted, or left out for a stated
    reason; any other tensor is an error. The folder gets ``config.json``, ``model.safetensors``, and ``import.json``
    with an account of every tensor. Train from it with ``gossamer.train(data, init=out)``.

    Args:
        source: Safetensors file, or a pickled state dict with ``trust_pickle``.
        out: New or empty folder.
        model: Name of the preset that the weights are for (default: the one preset that fits).
        attention: Name of the preset's own mechanism; convert to another one after the import.
        image_size: Rows x columns in pixels, to which positions are resampled (default: that of the file).
        in_channels: Number of channels of an image (default: that of the file).
        num_classes: Number of classes; the classifier is fresh if the file has another number (default: that of the
            file).
        trust_pickle: Whether to read a pickle, which can run code. Use it only for files whose authors you trust.

    Raises:
        GossamerError: The file cannot be read, is unsafe, or does not fit the model; ``E-OUTPUT``, if ``out`` is not a
            new or empty folder. Nothing is written.
    """
    require_training_packages("import-weights")
    out = Path(out)
    require_free_folder(out)
    require_place(out, parents=True)
    size = parse_size(image_size)
    published = read_published(Path(source), trust_pickle=trust_pickle)
    preset = find_preset(published, size) if model is None else model
    imported = load_published(
        published, preset, attention=attention, image_size=size, in_channels=in_channels, num_classes=num_classes
    )
    report = ImportReport(out, preset, imported.network.config, imported.account)
    with new_folder(out) as folder:
        save_model(imported.network, folder)
        write_json(folder / REPORT, report.to_json())
    return report


def _list_tensors(fate: str, count: int, entries: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return one row for each of the first tensors of a fate, with what happened to it."""
    named = [f"{name}: {how}" for name, how in entries]
    shown = named[:SHOWN] + ([f"and {len(named) - SHOWN} more"] if len(named) > SHOWN else [])
    first, *others = shown or [""]
    return [(fate, str(count), first), *(("", "", other) for other in others)]
