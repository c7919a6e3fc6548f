"""``gossamer predict``: images without labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gossamer.api.environment import choose_threads, require_training_packages, set_torch_threads
from gossamer.cli.output import Answer, Common, progress, say
from gossamer.errors import ErrorCode, GossamerError, Note, from_os_error

if TYPE_CHECKING:
    from gossamer.inference.bundle import Bundle
    from gossamer.inference.classification import ClassificationPredictor
    from gossamer.inference.engines import EngineName
    from gossamer.inference.segmentation import SegmentationPredictor


def predict(
    run: Path,
    /,
    *paths: Path,
    out: Path | None = None,
    rle_order: Literal["rows", "columns"] | None = None,
    strict: bool = False,
    engine: Literal["onnxruntime", "openvino"] | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Predict images with a trained run or a bundle: their classes, or their masks.

    A bundle needs no PyTorch. Of several labels, those are predicted whose probability lies above the threshold that
    the run has chosen for them. Folders are searched for images. An image that cannot be read does not stop the
    others: it is listed in errors.jsonl beside OUT, and the command exits with 65. Masks are written in the geometry
    and format of each image, with the size of each class in sizes.csv; a folder of studies in the UW-Madison layout
    gives one submission.csv of run lengths.

    Example: gossamer predict runs/chest new-images/ --out predictions.csv
    Example: gossamer predict bundles/hippocampus new-volumes/ --out masks/

    Args:
        run: folder of a run, or a bundle.
        paths: images, or folders of images.
        out: of classes, a CSV file, or standard output if left out; of masks, a new or empty folder.
        rle_order: whether run lengths count pixels along rows or columns, of masks; rows if left out.
        strict: stop at the first image that cannot be read.
        engine: what computes a bundle, onnxruntime if left out; openvino comes with the extra of that name.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    model = open_model(run, engine, threads)
    if model.masks is not None:
        return _predict_masks(model, model.masks, paths, out, rle_order or "rows", strict)
    if rle_order is not None:
        problem = "is an option of segmentation, this run classifies"
        raise GossamerError(ErrorCode.CONFIG, "--rle-order", problem, "leave it out")
    assert model.classifier is not None
    return _predict_classes(model, model.classifier, paths, out, strict, printed=not common.json)


@dataclass(frozen=True)
class Model:
    """A run or a bundle, as what answers.

    Attributes:
        facts: what it is, for ``--json``.
        seed: of the training, which the splits that data leave open depend on.
        classifier: where it classifies.
        masks: where it segments.
        notes: what its reader should know.
        channels: of an image, where it segments.
        numbered: whether files named ``<case>_0000``, ``<case>_0001``, ... are channels of one image.
    """

    facts: dict[str, Any]
    seed: int
    classifier: ClassificationPredictor | None = None
    masks: SegmentationPredictor | None = None
    notes: tuple[Note, ...] = ()
    channels: int = 1
    numbered: bool = False


def open_model(path: Path, engine: EngineName | None, threads: int | None) -> Model:
    """Return the run, which needs torch, or the bundle, which does not.

    Args:
        path: its folder.
        engine: what computes a bundle.
        threads: of the processor; all that this process may use if left out.

    Raises:
        GossamerError: it cannot be used; ``E-CODEC`` for a run without torch, ``E-CONFIG`` for an engine of a run.
    """
    from gossamer.inference.bundle import is_bundle, open_bundle

    if not path.exists():
        remedy = "name a folder of gossamer train or gossamer export"
        raise GossamerError(ErrorCode.MISSING, path, "there is no such folder", remedy)
    if is_bundle(path):
        return _bundle_model(open_bundle(path, engine=engine or "onnxruntime", threads=choose_threads(threads)))
    if engine is not None:
        problem = f"{engine} computes bundles, and {path} is none"
        raise GossamerError(ErrorCode.CONFIG, "--engine", problem, "leave it out, or gossamer export the run first")
    require_training_packages("predict")
    set_torch_threads(threads)
    return _run_model(path)


def _bundle_model(bundle: Bundle) -> Model:
    from gossamer.inference.classification import bundle_classifier
    from gossamer.inference.segmentation import bundle_masks

    manifest, engine = bundle.manifest, bundle.engine
    facts = {
        "bundle": str(bundle.path), "engine": engine.name, "engine_version": engine.version, "threads": bundle.threads,
    }  # fmt: skip
    seed = manifest.source.get("seed", 0)
    if not isinstance(seed, int):
        raise GossamerError(ErrorCode.CONFIG, bundle.path, f"its seed is {seed!r}, no number", "export it again")
    if manifest.task == "segment":
        channels, numbered = manifest.input.channels, manifest.layout == "decathlon"
        return Model(facts, seed, masks=bundle_masks(bundle), channels=channels, numbered=numbered)
    unset = manifest.output.multi_label and bundle.thresholds is None
    return Model(
        facts, seed, classifier=bundle_classifier(bundle), notes=_halves(bundle.path, "thresholds") if unset else ()
    )


def _run_model(path: Path) -> Model:
    from gossamer.checkpoint import load_model
    from gossamer.evaluation.torch_network import as_predict
    from gossamer.inference.classification import ClassificationPredictor
    from gossamer.training.mask_conclusion import mask_model
    from gossamer.training.run_folder import RunFolder

    folder, facts = RunFolder(path), {"run": str(path)}
    config = folder.read_config()
    if config.task == "segment":
        assert config.inference is not None
        channels, numbered = config.model.in_channels // config.inference.stack, config.layout == "decathlon"
        return Model(facts, config.seed, masks=mask_model(folder, config), channels=channels, numbered=numbered)
    thresholds = folder.read_thresholds(config)
    network = as_predict(load_model(path), multi_label=config.multi_label)
    classifier = ClassificationPredictor(network, config.preprocessing, config.classes, config.multi_label, thresholds)
    unset = config.multi_label and thresholds is None
    return Model(
        facts, config.seed, classifier=classifier, notes=_halves(path, folder.thresholds.name) if unset else ()
    )


def _halves(path: Path, lacks: str) -> tuple[Note]:
    """Return the note that several labels go without thresholds."""
    return (Note(ErrorCode.LABEL, str(path), f"has no {lacks}: a label is predicted above 0.5"),)


def _predict_classes(
    model: Model,
    classifier: ClassificationPredictor,
    paths: Sequence[Path],
    out: Path | None,
    strict: bool,
    *,
    printed: bool,
) -> Answer:
    from gossamer.files import require_place, write_text
    from gossamer.inference.classification import classify_pictures, find_pictures
    from gossamer.inference.decisions import to_csv

    if out is not None and out.exists():
        raise GossamerError(ErrorCode.OUTPUT, out, "exists already", "give another --out, or remove it")
    if out is not None:
        require_place(out)
    for note in model.notes:
        say(f"note: {note}")
    files = find_pictures(paths)
    with progress("predicting") as tick:
        results = classify_pictures(classifier, files, strict=strict, on_progress=tick)
    errors = _said(results.errors)
    if out is not None:
        write_text(out, to_csv(results.table()))
        if errors:
            write_text(out.parent / "errors.jsonl", "".join(json.dumps(error) + "\n" for error in errors))
    elif printed:
        sys.stdout.write(to_csv(results.table()))
    # Of two classes the larger probability decides; their threshold only says where evaluation measures.
    thresholds = classifier.thresholds if classifier.multi_label else None
    data = {
        **model.facts,
        "thresholds": None if thresholds is None else thresholds.to_json(),
        "predictions": results.to_json(),
        "errors": errors,
        "notes": [note.to_json() for note in model.notes],
    }
    text = f"wrote {len(results.answers)} predictions to {out}" if out is not None else None
    return Answer(data, text, ErrorCode.FORMAT.exit_status if errors else 0)


def _predict_masks(
    model: Model,
    masks: SegmentationPredictor,
    paths: Sequence[Path],
    out: Path | None,
    rle_order: Literal["rows", "columns"],
    strict: bool,
) -> Answer:
    from gossamer.files import require_place, write_text
    from gossamer.inference.mask_files import SIZES, find_inputs, predict_masks

    if out is None:
        raise GossamerError(ErrorCode.CONFIG, "--out", "is missing: masks need a folder", "give --out FOLDER")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GossamerError(ErrorCode.OUTPUT, out, "exists and is not an empty folder", "give another --out")
    require_place(out, parents=True)
    inputs = find_inputs(paths, model.channels, numbered=model.numbered)
    with _made(out), progress("segmenting") as tick:
        results = predict_masks(masks, inputs, out, order=rle_order, strict=strict, on_progress=tick)
    errors = _said(results.errors)
    if errors:
        write_text(out / "errors.jsonl", "".join(json.dumps(error) + "\n" for error in errors))
    data = {
        **model.facts,
        "masks": [str(file) for file in results.files],
        "sizes": [dict(zip(("path", "class", "size", "unit"), row, strict=True)) for row in results.rows],
        "errors": errors,
        "notes": [note.to_json() for note in results.notes],
    }
    text = f"wrote masks of {len(inputs) - len(errors)} of {len(inputs)} inputs to {out}, sizes in {out / SIZES}"
    return Answer(data, text, ErrorCode.FORMAT.exit_status if errors else 0)


def _said(errors: Sequence[tuple[Path, GossamerError]]) -> list[dict[str, str]]:
    """Say each error in a line, and return them as data with the paths of their inputs."""
    for _, error in errors:
        say(f"gossamer: {error}")
    return [{"path": str(path), **error.to_json()} for path, error in errors]


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder for the block; where it fails and has written nothing, remove what was made."""
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, folder) from error
    try:
        yield
    except GossamerError:
        if not any(folder.iterdir()):
            for path in made:
                path.rmdir()
        raise
