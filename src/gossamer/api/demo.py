"""``gossamer.run_demo``: every step on drawn images, from training to a quantized bundle that predicts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from gossamer.api.draw_phantom import draw_phantom
from gossamer.api.environment import require_training_packages
from gossamer.api.evaluate import evaluate
from gossamer.api.export import export
from gossamer.api.load import load
from gossamer.api.predict import predict
from gossamer.api.progress import choose_progress
from gossamer.api.quantize import quantize
from gossamer.api.train import train
from gossamer.arguments import checked_arguments
from gossamer.data import open_dataset
from gossamer.data.label_map import LabelMap
from gossamer.data.synthetic.abdomen import DAYS, SLICES
from gossamer.errors import ErrorCode, GossamerError
from gossamer.evaluation.example_slice import choose_example_slice
from gossamer.files import write_text
from gossamer.inference.predictor import Predictor
from gossamer.progress import Progress
from gossamer.report.demo_page import DemoPart, render_demo, show_image, show_overlay
from gossamer.report.overlays import draw_legend
from gossamer.report.page import PageOrigin, format_command
from gossamer.summary import Result, SummaryTable

PICTURES = 6
"""Largest number of pictures of inputs and of predictions in a part of the page."""
MAX_DROP = 0.02
"""Largest loss of AUROC or Dice in int8; validation splits as small as these are not more precise."""
MARKER = ".gossamer-demo"
"""Name of the file by which the folder of an earlier demo is recognized."""


@dataclass(frozen=True, kw_only=True)
class DemoRecipe:
    """What a part of the demo draws and trains.

    Attributes:
        name: Name of its folders.
        title: Title on the page.
        task: Description of the task.
        unit: Name of the images of the data set, in the plural.
        metric: Name of the metric that the page shows, and its label.
        drawing: Arguments of ``gossamer.draw_phantom``.
        training: Options of ``gossamer.train``.
        images: Folder inside the data that is predicted.
        output: Name of the predictions.
        show: Function that returns the pictures of inputs and predictions, from the predictor of the int8 bundle, the
            data set and the predictions.
    """

    name: str
    title: str
    task: str
    unit: str
    metric: tuple[str, str]
    drawing: dict[str, Any]
    training: dict[str, Any]
    images: str
    output: str
    show: Callable[[Predictor, Any, Any], dict[str, Any]]


@dataclass(frozen=True, repr=False)
class DemoResults(Result):
    """The results of the demo.

    Attributes:
        folder: Folder of the demo, with data, runs, bundles, predictions and the page.
        parts: The classifier and the segmenter.
    """

    folder: Path
    parts: tuple[DemoPart, ...]

    @property
    def report(self) -> Path:
        """HTML page that leads through the demo."""
        return self.folder / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """Return the path of the page, and the summary of the run and the int8 metrics of each part."""
        parts = {
            part.name: {
                **part.conclusion.to_json(),
                "int8": {name: estimate.to_json() for name, estimate in part.int8_metrics.items()},
            }
            for part in self.parts
        }
        return {"report": str(self.report), **parts}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return a comparison of the float32 and the int8 bundle of each part, and the path of the page."""
        tables = [SummaryTable(part.title, ("", "float32", "int8"), tuple(part.comparison)) for part in self.parts]
        return (*tables, SummaryTable(f"report: {self.report}", (), ()))


@checked_arguments
def run_demo(
    out: str | Path = "demo",
    *,
    count: int = 440,
    epochs: int = 6,
    cases: int = 16,
    mask_epochs: int = 7,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> DemoResults:
    """Draw images, train a classifier and a segmenter, export and quantize both, and predict with the bundles.

    The classifier is a small Vision Transformer with sequence normalization that finds nodules in chest radiographs.
    The segmenter is a small TransUNet with key-value attention that outlines three organs of the abdomen. One page
    shows every step with the command that does the same.

    Args:
        out: Folder to write; the results of an earlier demo in it are replaced (default: ``demo``).
        count: Number of radiographs, at least 220, so that 128 are left to calibrate int8 with (default: 440).
        epochs: Number of epochs of the classifier (default: 6).
        cases: Number of patients with 24 slices of the abdomen each, at least 9 (default: 16).
        mask_epochs: Number of epochs of the segmenter (default: 7).
        threads: Number of CPU threads (default: all available).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Raises:
        GossamerError: ``E-OUTPUT`` for a folder with other contents, ``E-CODEC`` without the extra ``train``, or the
            errors of the steps, such as ``E-CONFIG`` for too few images.
    """
    require_training_packages("demo")
    folder = Path(out).resolve()
    _clear_folder(folder)
    recipes = (
        replace(CHEST, drawing={**CHEST.drawing, "count": count}, training={**CHEST.training, "epochs": epochs}),
        replace(
            ABDOMEN,
            drawing={**ABDOMEN.drawing, "count": cases * DAYS * SLICES},
            training={**ABDOMEN.training, "epochs": mask_epochs},
        ),
    )
    receiver = choose_progress(progress)
    results = DemoResults(folder, tuple(_run_part(folder, recipe, threads, receiver) for recipe in recipes))
    write_text(results.report, render_demo(results.parts, PageOrigin(command=format_command("demo", out=out))))
    return results


def _clear_folder(folder: Path) -> None:
    """Make an empty folder; remove an earlier demo, but nothing else.

    Raises:
        GossamerError: ``E-OUTPUT`` for a folder with other contents.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            problem = "exists, and its contents were not written by the demo"
            raise GossamerError(ErrorCode.OUTPUT, folder, problem, "choose another folder")
        shutil.rmtree(folder)
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def _run_part(folder: Path, recipe: DemoRecipe, threads: int | None, progress: Progress) -> DemoPart:
    """Do every step of a part, and return what the page shows. The commands are those of a user in the folder."""
    name = recipe.name
    data, run, float32, int8 = f"data/{name}", f"runs/{name}", f"bundles/{name}", f"bundles/{name}-int8"
    images, predictions = f"{data}/{recipe.images}", f"predictions/{recipe.output}"
    progress.show_message(f"drawing the images of {name}")
    draw_phantom(folder / data, **recipe.drawing)
    trained = train(folder / data, out=folder / run, threads=threads, progress=progress, **recipe.training)
    exported = export(folder / run, folder / float32, threads=threads, progress=progress)
    quantized = quantize(  # from the bundle: a run would be exported again
        exported.path, folder / int8, data=folder / data, max_drop=MAX_DROP, threads=threads, progress=progress
    )
    predictor = load(quantized.path, threads=threads)
    evaluated = evaluate(predictor, folder / data, progress=progress)
    predicted = predict(predictor, folder / images, out=folder / predictions, progress=progress)
    dataset = open_dataset(folder / data, seed=trained.config.seed, task=trained.config.task)
    return DemoPart(
        name=name,
        title=recipe.title,
        task=recipe.task,
        commands={
            "draw": format_command("data phantom", data, **recipe.drawing),
            "train": format_command("train", data, **recipe.training, out=run),
            "export": format_command("export", run, out=float32),
            "quantize": format_command("quantize", float32, data=data, max_drop=MAX_DROP, out=int8),
            "evaluate": format_command("evaluate", int8, data),
            "predict": format_command("predict", int8, images, out=predictions),
        },
        unit=recipe.unit,
        images=Counter(sample.split for sample in dataset.samples),
        conclusion=trained.conclusion,
        report=f"{run}/report.html",
        metric=recipe.metric,
        float32=exported.manifest,
        int8=quantized.manifest,
        int8_metrics=evaluated.metrics,
        **recipe.show(predictor, dataset, predicted),
    )


def _show_radiographs(predictor: Predictor, dataset: Any, predicted: Any) -> dict[str, Any]:
    """Return radiographs of the test split, as drawn and with their predictions, the classes in turn."""
    by_class = [[sample for sample in dataset.split("test") if sample.labels == (k,)] for k in (1, 0)]
    samples = list(chain.from_iterable(zip(*by_class, strict=False)))[:PICTURES]
    predictions = {Path(one.source).name: one for one in predicted.predictions}
    inputs, outputs = [], []
    for sample in samples:
        image, truth = dataset.read_image(sample).array, dataset.classes[sample.labels[0]]
        one = predictions[Path(sample.id).name]
        inputs.append(show_image(image, truth))
        caption = f"{one.name} with probability {one.probabilities.max():.2f}; truth: {truth}"
        outputs.append(show_image(image, caption, wrong=one.name != truth))
    return {"inputs": inputs, "predictions": outputs}


def _show_slices(predictor: Predictor, dataset: Any, predicted: Any) -> dict[str, Any]:
    """Return a slice of each case of the test split, as drawn and with its outlines."""
    inputs, outputs = [], []
    for sample in dataset.split("test")[:PICTURES]:
        image, truth = dataset.read(sample)
        prediction = predictor.predict(image)
        assert isinstance(prediction, LabelMap)
        example = choose_example_slice(image, truth, prediction)
        caption = f"{sample.id}, slice {example.slice_index}"
        inputs.append(show_image(example.picture, caption))
        outputs.append(show_overlay(example, caption))
    return {"inputs": inputs, "predictions": outputs, "legend": draw_legend(predictor.classes)}


CHEST = DemoRecipe(
    name="chest",
    title="Classification of chest radiographs",
    task="Half of the patients have a nodule, a faint round shadow in a lung. The network decides whether a radiograph "
    "shows one.",
    unit="radiographs",
    metric=("auroc", "AUROC"),
    drawing={"kind": "chest", "image_size": (48, 48), "nodule_radius": (0.1, 0.15)},
    # Few images: the number of steps matters more than the number of images, so that batches are small.
    training={
        "model": "vit_nano",
        "attention": "sequence_norm",
        "patch_size": 8,
        "batch_size": 16,
        "learning_rate": 5e-4,
    },
    images="images",
    output="chest.csv",
    show=_show_radiographs,
)
ABDOMEN = DemoRecipe(
    name="abdomen",
    title="Segmentation of abdominal slices",
    task="A slice shows up to three organs, which partly overlap. The network outlines each of them.",
    unit="volumes",
    metric=("dice", "Dice"),
    drawing={"kind": "abdomen", "image_size": (48, 64)},
    training={"model": "transunet_small", "attention": "kv", "batch_size": 4, "learning_rate": 3e-3},
    images="train",
    output="abdomen",
    show=_show_slices,
)
