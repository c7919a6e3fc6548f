"""``gossamer predict``: images without labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gossamer.cli.answer import Answer, Common, progress, require_torch, say, set_threads
from gossamer.errors import ErrorCode, GossamerError, from_os_error

if TYPE_CHECKING:
    from gossamer.train.run import RunConfig


def predict(
    run: Path,
    /,
    *paths: Path,
    out: Path | None = None,
    rle_order: Literal["rows", "columns"] = "rows",
    strict: bool = False,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Predict images with a trained run: their classes, or their masks.

    Of several labels, those are predicted whose probability lies above the threshold that the run has chosen for them.
    Folders are searched for images. An image that cannot be read does not stop the others: it is listed in errors.jsonl
    beside OUT, and the command exits with 65. Masks are written in the geometry and format of each image, with the size
    of each class in sizes.csv; a folder of studies in the UW-Madison layout gives one submission.csv of run lengths.

    Example: gossamer predict runs/chest new-images/ --out predictions.csv
    Example: gossamer predict runs/hippocampus new-volumes/ --out masks/

    Args:
        run: folder of a run.
        paths: images, or folders of images.
        out: of classes, a CSV file, or standard output if left out; of masks, a new or empty folder.
        rle_order: whether run lengths count pixels along rows or columns.
        strict: stop at the first image that cannot be read.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    require_torch("predict")
    set_threads(threads)
    from gossamer.train.run import RunFolder

    config = RunFolder(run).read_config()
    if config.task == "segment":
        return _predict_masks(run, config, paths, out, rle_order, strict)
    if out is not None and out.exists():
        raise GossamerError(ErrorCode.OUTPUT, out, "exists already", "give another --out, or remove it")
    from gossamer.checkpoint import load_model
    from gossamer.cli.evaluate import run_thresholds
    from gossamer.data import read_image
    from gossamer.evaluate.predictions import chosen_classes, names_of, predict_images, to_csv
    from gossamer.files import write_text

    model = load_model(run)
    thresholds, notes = run_thresholds(RunFolder(run), config)
    for note in notes:
        say(f"note: {note}")
    files = find_images(paths)
    rows, errors = [["path", "prediction", *(f"p({name})" for name in config.classes)]], []
    answers = []
    with progress("predicting") as tick:
        for done, file in enumerate(files, start=1):
            try:
                image = read_image(file)
                array = config.preprocessing.network_input(image)[None]
            except GossamerError as error:
                if strict:
                    raise
                errors.append({"path": str(file), **error.to_json()})
                say(f"gossamer: {error}")
                continue
            probabilities = predict_images(model, array, multi_label=config.multi_label)
            chosen = chosen_classes(probabilities, multi_label=config.multi_label, thresholds=thresholds)
            (name,) = names_of(chosen, config.classes)
            rows.append([str(file), name, *(f"{p:.6f}" for p in probabilities[0])])
            answers.append(
                {
                    "path": str(file),
                    "prediction": name,
                    "probabilities": dict(zip(config.classes, probabilities[0].tolist(), strict=True)),
                    "notes": [note.to_json() for note in image.notes],
                }
            )
            tick(done, len(files))
    if out is not None:
        write_text(out, to_csv(rows))
        if errors:
            write_text(out.parent / "errors.jsonl", "".join(json.dumps(error) + "\n" for error in errors))
    elif not common.json:
        sys.stdout.write(to_csv(rows))
    text = f"wrote {len(answers)} predictions to {out}" if out is not None else None
    status = ErrorCode.FORMAT.exit_status if errors else 0
    data = {
        "run": str(run),
        "thresholds": None if thresholds is None else thresholds.to_json(),
        "predictions": answers,
        "errors": errors,
        "notes": [note.to_json() for note in notes],
    }
    return Answer(data, text, status)


def _predict_masks(
    run: Path,
    config: RunConfig,
    paths: Sequence[Path],
    out: Path | None,
    rle_order: Literal["rows", "columns"],
    strict: bool,
) -> Answer:
    from gossamer.evaluate.predict_masks import SIZES, find_inputs, predict_masks
    from gossamer.files import write_text
    from gossamer.report.mask_conclusion import mask_model
    from gossamer.train.run import RunFolder

    if out is None:
        raise GossamerError(ErrorCode.CONFIG, "--out", "is missing: masks need a folder", "give --out FOLDER")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GossamerError(ErrorCode.OUTPUT, out, "exists and is not an empty folder", "give another --out")
    assert config.inference is not None
    channels = config.model.in_channels // config.inference.stack
    inputs = find_inputs(paths, channels, numbered=config.layout == "decathlon")
    model = mask_model(RunFolder(run), config)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, out) from error
    with progress("segmenting") as tick:
        results = predict_masks(model, inputs, out, order=rle_order, strict=strict, on_progress=tick)
    errors = [{"path": str(path), **error.to_json()} for path, error in results.errors]
    for _, error in results.errors:
        say(f"gossamer: {error}")
    if errors:
        write_text(out / "errors.jsonl", "".join(json.dumps(error) + "\n" for error in errors))
    data = {
        "run": str(run),
        "masks": [str(file) for file in results.files],
        "sizes": [dict(zip(("path", "class", "size", "unit"), row, strict=True)) for row in results.rows],
        "errors": errors,
        "notes": [note.to_json() for note in results.notes],
    }
    text = f"wrote masks of {len(inputs) - len(errors)} of {len(inputs)} inputs to {out}, sizes in {out / SIZES}"
    return Answer(data, text, ErrorCode.FORMAT.exit_status if errors else 0)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return the files among ``paths`` and the images inside its folders, in order.

    Raises:
        GossamerError: ``E-MISSING``, where a path is not there or there is no image.
    """
    from gossamer.data.io import RASTER_SUFFIXES

    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise GossamerError(ErrorCode.MISSING, path, "no such file or folder", "check the path")
        if path.suffix.lower() in (".npz", ".csv"):
            problem = "is a data set, predict takes images"
            raise GossamerError(ErrorCode.UNSUPPORTED, path, problem, f"use gossamer evaluate RUN {path}")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [
            file for file in inside if file.is_file() and (file == path or file.suffix.lower() in RASTER_SUFFIXES)
        ]
    if not files:
        where = ", ".join(str(path) for path in paths) or "gossamer predict"
        raise GossamerError(
            ErrorCode.MISSING, where, "no images", f"name files or folders with {', '.join(RASTER_SUFFIXES)}"
        )
    return files
