"""The report of a quantization: its result as data, and a figure of the sensitivity of the layers."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure

from gossamer.errors import from_os_error
from gossamer.files import write_json
from gossamer.quantization.outcome import QuantizationOutcome
from gossamer.quantization.sensitivity import LayerSensitivity
from gossamer.report.figures import BLUE, ORANGE, create_axes, with_style, write_png

REPORT, SENSITIVITY = "quantization.json", "sensitivity.png"


def report_folder(out: Path) -> Path:
    """Return the folder next to a bundle with the report of its quantization."""
    return out.with_name(f"{out.name}.report")


def write_report(folder: Path, outcome: QuantizationOutcome) -> list[Path]:
    """Write ``quantization.json`` and, if sensitivities were measured, ``sensitivity.png``; return the written files.

    Raises:
        GossamerError: ``E-OUTPUT`` or ``E-NOSPACE``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (REPORT, SENSITIVITY):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise from_os_error(error, folder) from error
    written = [folder / REPORT]
    write_json(folder / REPORT, outcome.to_json())
    if outcome.sensitivities:
        last = outcome.tried[-1].kept if outcome.tried else ()
        write_png(plot_sensitivity(outcome.sensitivities, last), folder / SENSITIVITY)
        written.append(folder / SENSITIVITY)
    return written


@with_style
def plot_sensitivity(sensitivities: tuple[LayerSensitivity, ...], kept: tuple[str, ...] = ()) -> Figure:
    """Return the signal-to-noise ratio of the logits when one layer at a time is in 8 bits.

    Args:
        sensitivities: Sensitivity of each layer, in the order of the graph.
        kept: Labels of the matrix products that stay in floating point.
    """
    figure, (axes,) = create_axes(1, (7.4, 1.0 + 0.19 * len(sensitivities)))
    finite = [layer.sqnr_db for layer in sensitivities if math.isfinite(layer.sqnr_db)]
    top = max(finite, default=0.0) + 10
    colors = [ORANGE if {p.label for p in layer.products} <= set(kept) else BLUE for layer in sensitivities]
    values = [min(max(layer.sqnr_db, 0.0), top) for layer in sensitivities]
    rows = range(0, -len(sensitivities), -1)
    axes.barh(rows, values, color=colors, height=0.7)
    axes.set_yticks(rows, [_shorten_label(layer.label) for layer in sensitivities], fontsize="x-small")
    title = "Sensitivity of the layers" + (" (orange: kept in floating point)" if ORANGE in colors else "")
    axes.set(
        title=title, xlabel="signal-to-noise ratio of the logits with only this layer in 8 bits, dB (low: sensitive)"
    )
    axes.set_ylim(0.6 - len(sensitivities), 0.6)
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    return figure


def _shorten_label(label: str) -> str:
    """Return the end of a long label, where layers differ."""
    return label if len(label) <= 40 else "…" + label[-39:]
