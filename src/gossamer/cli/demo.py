"""``gossamer demo``: the whole job on data that anyone may have."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Answer, Common, say
from gossamer.errors import ErrorCode, GossamerError

CLASSIFIERS = ("sequence_norm", "softmax")
SEGMENTERS = ("kv", "softmax")
CHEST_SIZE = (48, 48)
NODULE_RADIUS = (0.075, 0.12)
"""Of the side of a radiograph. In small pictures, nodules cover as many pixels as the usual ones in larger pictures."""
SLICE_SIZE = (64, 80)


def demo(
    *,
    out: Path = Path("demo"),
    count: int = 960,
    epochs: int = 9,
    cases: int = 24,
    mask_epochs: int = 10,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Train networks and their softmax twins on phantoms, and compare them.

    Draws chest radiographs with and without nodules, and slices of the abdomen with the masks of three organs. Trains a
    small Vision Transformer with sequence normalization and a small TransUNet with key-value attention, each beside the
    same network with softmax attention, evaluates all and writes one page that leads to the details.

    Example: gossamer demo --out demo

    Args:
        out: folder to write; what an earlier demo left there is replaced.
        count: number of phantom radiographs.
        epochs: of each training on them.
        cases: number of phantom patients with slices of the abdomen.
        mask_epochs: of each training on them.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_training_packages("demo")
    from gossamer.data.synthetic.abdomen import write_abdomen
    from gossamer.data.synthetic.phantom import write_phantom
    from gossamer.files import write_text
    from gossamer.report.classification_page import render_demo, render_twins
    from gossamer.report.segmentation_page import render_mask_twins

    _make_room(out)
    say(f"drawing {count} phantom radiographs and the slices of {cases} phantom patients")
    write_phantom(out / "chest", count=count, size=CHEST_SIZE, nodule_radius=NODULE_RADIUS)
    write_abdomen(out / "abdomen", cases=cases, days=2, slices=8, size=SLICE_SIZE)
    (out / _MARK).touch()
    answer: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []
    # Few images: steps decide more than images, so batches are small. Twins share one rate, at which both learn in so
    # few steps; at the recipe's own rate softmax attention has hardly begun when the demo ends.
    chest = {
        "model": "vit_nano",
        "patch_size": 8,
        "epochs": epochs,
        "batch_size": 16,
        "learning_rate": 3e-4,
        "patience": epochs,
    }
    abdomen = {"model": "transunet_small", "epochs": mask_epochs, "batch_size": 4, "learning_rate": 3e-3}
    for name, wishes, twins, render, intro in (
        ("chest", chest, CLASSIFIERS, render_twins, _CHEST),
        ("abdomen", abdomen, SEGMENTERS, render_mask_twins, _ABDOMEN),
    ):
        conclusions = _train_twins(out, name, wishes, twins, threads)
        page = f"{name}.html"
        write_text(out / page, render(conclusions, intro))
        parts.append({"link": page, "intro": intro, "conclusions": conclusions})
        answer |= {link.split("/")[0]: conclusion.to_json() for link, conclusion in conclusions.items()}
    report = out / "report.html"
    write_text(report, render_demo(parts))
    say("")
    return Answer({"report": str(report.resolve()), **answer}, f"report: {report.resolve()}")


_CHEST = (
    "Two Vision Transformers that differ in nothing but their attention, trained on the same drawn chest radiographs "
    "with the same seed. Half of the patients have a nodule; the task is to find them."
)
_ABDOMEN = (
    "Two TransUNets that differ in nothing but their attention, trained on the same drawn slices of the abdomen with "
    "the same seed. The task is to outline three organs, which partly overlap; keys serve as queries in one of the two."
)


def _train_twins(
    out: Path, data: str, wishes: dict[str, Any], twins: tuple[str, ...], threads: int | None
) -> dict[str, Any]:
    """Return the conclusion of each twin, by the link to its report."""
    from gossamer.api.train import train

    conclusions: dict[str, Any] = {}
    for attention in twins:
        folder = f"{data}-{attention}"
        options = {**wishes, "attention": attention}
        run = train(out / data, out=out / folder, threads=threads, progress=True, **options)
        assert run.conclusion is not None, "the demo runs in one process"
        conclusions[f"{folder}/report.html"] = run.conclusion
    return conclusions


_MARK = ".gossamer-demo"


def _make_room(out: Path) -> None:
    """Remove an earlier demo; refuse to touch anything else."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise GossamerError(ErrorCode.OUTPUT, out, "exists and holds no demo", "give another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
