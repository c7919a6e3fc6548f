"""``gossamer models``: what there is to choose from."""

from __future__ import annotations

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Answer, Common


def models(pattern: str = "*", /, *, common: Common = Common()) -> Answer:
    """List networks and attention mechanisms.

    Parameters and multiply-accumulates are those of the published size, with the network's own attention.

    Example: gossamer models "vit_*"

    Args:
        pattern: shell pattern of names.
        common: options of every verb.
    """
    require_training_packages("models")
    import torch
    from rich.console import Group
    from rich.table import Table

    from gossamer.nn.attention import MECHANISMS
    from gossamer.nn.models import PRESETS, create_model, list_models

    rows = []
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "task", "input", "parameters", "GMACs"):
        table.add_column(heading, justify="left" if heading in ("model", "task") else "right")
    for name in sorted(list_models(pattern), key=lambda name: (PRESETS[name].task, name)):
        preset = PRESETS[name]
        with torch.device("meta"):  # shapes are enough
            model = create_model(name)
        size = "x".join(str(side) for side in preset.image_size)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        macs = model.cost().macs
        described = {"name": name, "task": preset.task, "image_size": preset.image_size}
        rows.append({**described, "parameters": parameters, "macs": macs})
        table.add_row(name, preset.task, size, f"{parameters:,}", f"{macs / 1e9:.3f}")
    text = Group(table, "", f"attention: {', '.join(MECHANISMS)}") if rows else f"no model matches {pattern!r}"
    return Answer({"models": rows, "attention": list(MECHANISMS)}, text)
