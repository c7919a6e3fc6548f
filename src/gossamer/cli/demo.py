"""``gossamer demo``: the whole job on data that anyone may have."""

from __future__ import annotations

import shutil
from pathlib import Path

from gossamer.cli.answer import Answer, Common, require_torch, say
from gossamer.errors import ErrorCode, GossamerError

TWINS = ("sequence_norm", "softmax")


def demo(
    *,
    out: Path = Path("demo"),
    count: int = 480,
    epochs: int = 24,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Train a network and its softmax twin on a phantom, and compare them.

    Draws chest radiographs with and without nodules, trains a small Vision Transformer with sequence normalization and
    the same network with softmax attention, evaluates both and writes one page that sets them side by side.

    Example: gossamer demo --out demo

    Args:
        out: folder to write; what an earlier demo left there is replaced.
        count: number of phantom images.
        epochs: of each training.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_torch("demo")
    from gossamer.cli.train import new_run
    from gossamer.data.datasets.phantom import write_phantom
    from gossamer.files import write_text
    from gossamer.report.page import render_twins
    from gossamer.train.plan import Wishes

    _make_room(out)
    data = out / "phantom"
    say(f"drawing {count} phantom radiographs")
    write_phantom(data, count=count)
    (out / _MARK).touch()
    conclusions = {}
    for attention in TWINS:
        wishes = Wishes(model="vit_nano", attention=attention, epochs=epochs)
        conclusion, _ = new_run(data, out / attention, wishes, threads)
        assert conclusion is not None, "the demo runs in one process"
        conclusions[f"{attention}/report.html"] = conclusion
    page = out / "report.html"
    intro = (
        "Two networks that differ in nothing but their attention, trained on the same drawn chest radiographs with "
        "the same seed. Half of the patients have a nodule; the task is to find them."
    )
    write_text(page, render_twins(conclusions, intro))
    say("")
    data_out = {"report": str(page.resolve()), **{link.split("/")[0]: c.to_json() for link, c in conclusions.items()}}
    return Answer(data_out, f"report: {page.resolve()}")


_MARK = ".gossamer-demo"


def _make_room(out: Path) -> None:
    """Remove an earlier demo; refuse to touch anything else."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise GossamerError(ErrorCode.OUTPUT, out, "exists and holds no demo", "give another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
