"""``gossamer profile``: what a network costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gossamer.cli.answer import Answer, Common, parse_size, require_torch, set_threads


def profile(
    model: str,
    /,
    *,
    attention: str | None = None,
    image_size: str | None = None,
    patch_size: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    batch: int = 1,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Measure what a network costs: parameters, MACs, latency, memory.

    MODEL is a preset of gossamer models, or a run folder, whose own size is used.

    Example: gossamer profile vit_small --attention sequence_norm --image-size 224x224

    Args:
        model: preset or run folder.
        attention: a mechanism, by name or as JSON, for a preset.
        image_size: rows x columns, for a preset.
        patch_size: side of a patch, for a preset.
        in_channels: channels of an image, for a preset.
        num_classes: number of logits, for a preset.
        batch: images of one timed call.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_torch("profile")
    used = set_threads(threads)
    from gossamer.checkpoint import load_model
    from gossamer.errors import ErrorCode, GossamerError
    from gossamer.measure.profile import profile_model
    from gossamer.nn.models import create_model

    given = {"attention": attention, "in_channels": in_channels, "num_classes": num_classes, "patch_size": patch_size}
    if batch < 1:
        raise GossamerError(ErrorCode.CONFIG, "--batch", f"{batch} is less than 1", "use 1 or more")
    if Path(model).is_dir():
        if image_size or any(value is not None for value in given.values()):
            raise GossamerError(ErrorCode.CONFIG, model, "a run keeps its own network", "leave the other options out")
        network = load_model(Path(model))
    else:
        network = create_model(
            model,
            image_size=parse_size(image_size),
            **{key: value for key, value in given.items() if value is not None},
        )
    figures = profile_model(network, batch=batch)
    data = {"model": model, "threads": used, "cost": {name: figure.to_json() for name, figure in figures.items()}}
    return Answer(data, _table(figures))


def _table(figures: Any) -> Any:
    from rich.table import Table

    from gossamer.report.page import COST_ROWS, quantity

    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "value", "how", ""):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for name, figure in figures.items():
        table.add_row(COST_ROWS[name], quantity(figure.value, figure.unit), figure.how, figure.detail)
    return table
