"""What all pages share: templates and their filters, the origin of a page, and the parts that both tasks show."""

from __future__ import annotations

import dataclasses
import datetime
import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gossamer import __version__
from gossamer.data import SPLITS, Dataset
from gossamer.profiling.figure import FIGURE_LABELS, format_quantity
from gossamer.report import figures
from gossamer.training.conclusion import Conclusion

MOST_NOTES = 20


@dataclass(frozen=True)
class PageOrigin:
    """Date, version and command of a page, which it shows.

    Attributes:
        command: Command that repeats the work (default: none is shown).
        date: Day on which the page is written (default: today).
        version: Version of Gossamer.
    """

    command: str = ""
    date: datetime.date = field(default_factory=datetime.date.today)
    version: str = __version__


def render_page(template: str, origin: PageOrigin | None, **values: Any) -> str:
    """Return a page as HTML that needs no other file.

    Args:
        template: Name of the template.
        origin: Date, version and command of the page (default: today, without a command).
        **values: Values that the template shows.
    """
    return _load_templates().get_template(template).render(origin=origin or PageOrigin(), **values)


def format_command(verb: str, *arguments: object, **options: object) -> str:
    """Return the command line that does the same as a call of the Python API.

    Args:
        verb: Name of the verb, such as ``train`` or ``data phantom``.
        *arguments: Positional arguments; absolute paths are shortened to their name.
        **options: Options by the name of their parameter; None is omitted.
    """
    words = ["gossamer", *verb.split(), *(show_path(argument) for argument in arguments)]
    for name, value in options.items():
        option = name.replace("_", "-")
        if value is True:
            words.append(f"--{option}")
        elif value is False:
            words.append(f"--no-{option}")
        elif isinstance(value, tuple | list) and name.endswith("size"):
            words += [f"--{option}", "x".join(str(side) for side in value)]
        elif isinstance(value, tuple):
            words += [f"--{option}", *(str(item) for item in value)]
        elif isinstance(value, list):
            words += [f"--{option}", ",".join(show_path(item) for item in value)]
        elif value is not None:
            words += [f"--{option}", show_path(value)]
    return shlex.join(words)


def show_path(path: object) -> str:
    """Return a path as pages show it: an absolute one is shortened to its last component."""
    text = str(path)
    return Path(text).name or text if Path(text).is_absolute() else text


def show_value(value: object) -> str:
    """Return a setting as pages show it, with absolute paths shortened at any depth."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {show_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ",".join(show_value(inner) for inner in value)
    return show_path(value)


def shorten_paths(command: str) -> str:
    """Return a command line with absolute paths as pages show them."""
    return shlex.join(show_path(word) for word in shlex.split(command))


def run_values(conclusion: Conclusion) -> dict[str, Any]:
    """Return the values that the page of a run shows for either task."""
    c = conclusion
    curves = figures.plot_learning_curves(c.fitted.history, c.fitted.best_epoch, c.run.monitor)
    return {
        "c": c,
        "title": c.run.title,
        "data": show_path(c.run.data),
        "cost": [(FIGURE_LABELS[name], figure) for name, figure in c.profile.items()],
        "curves": figures.to_svg(curves),
        "most_notes": MOST_NOTES,
        "configuration": _configuration_text(c),
    }


def count_samples(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the numbers of samples and of known patients in each split that has samples, as rows of a table."""
    rows = []
    for split in SPLITS:
        samples = [sample for sample in dataset.samples if sample.split == split]
        if samples:
            patients = {sample.patient for sample in samples} - {None}
            rows.append({"split": split, "samples": len(samples), "patients": len(patients)})
    return rows


def _configuration_text(conclusion: Conclusion) -> str:
    """Return the configuration of a run as YAML, with paths as pages show them."""
    run = conclusion.run
    init = None if run.init is None else dataclasses.replace(run.init, path=show_path(run.init.path))
    return dataclasses.replace(run, data=show_path(run.data), init=init).to_yaml()


def _load_templates() -> Environment:
    """Return the templates with their filters."""
    templates = Environment(
        loader=PackageLoader("gossamer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["zip"] = zip
    templates.filters["quantity"] = format_quantity
    templates.filters["decimal"] = lambda value: "–" if value is None or math.isnan(value) else f"{value:.3f}"
    templates.filters["path"] = show_path
    return templates
