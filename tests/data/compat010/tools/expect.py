"""Writes expected.json: what version 0.1.0 answers about each artefact. python tools/expect.py, from the folder."""

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

IMAGES = {
    "classification": [f"data/classification/images/{name}.png" for name in ("p00_0", "p01_1", "p09_0")],
    "multi_label": [f"data/multi_label/images/{name}.png" for name in ("00", "17", "19")],
    "segmentation": [f"data/segmentation/images/{name}.png" for name in ("03", "04", "10")],
    "volumes": [f"data/volumes/imagesTr/case_{name}.nii.gz" for name in ("000", "001", "005")],
}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def gossamer(*arguments):
    command = [sys.executable, "-m", "gossamer", *map(str, arguments), "--threads", "1", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{command}: {ended.returncode}\n{ended.stderr}")
    return json.loads(ended.stdout)


def mask(path):
    """Of a mask as stored: rows x columns, or the axes of the NIfTI file; its bytes in C order as uint8."""
    array = np.asarray(nibabel.load(path).dataobj if path.name.endswith(".nii.gz") else Image.open(path))
    whole = np.ascontiguousarray(array, dtype=np.uint8)
    assert (whole == array).all()
    values, counts = np.unique(whole, return_counts=True)
    return {
        "shape": list(whole.shape),
        "pixels": {str(value): int(count) for value, count in zip(values, counts, strict=True)},
        "sha256_uint8": sha256(whole.tobytes()),
    }


def predicted(artefact, kind):
    images = IMAGES[kind]
    if kind in ("classification", "multi_label"):
        return gossamer("predict", artefact, *images)
    with tempfile.TemporaryDirectory(dir=".") as place:
        out = Path(place) / "masks"
        answer = gossamer("predict", artefact, *images, "--out", out)
        answer["mask_arrays"] = {}
        for file in answer["masks"]:
            answer["mask_arrays"][Path(file).relative_to(out).as_posix()] = mask(Path(file))
        answer["masks"] = sorted(answer["mask_arrays"])
    return answer


def artefact(name, kind):
    print(name, file=sys.stderr)
    folder = Path(name)
    found = {"data": f"data/{kind}", "predict": predicted(folder, kind)}
    found["evaluate"] = {split: gossamer("evaluate", folder, f"data/{kind}", "--split", split) for split in ("test",)}
    if (folder / "model.safetensors").exists():
        found["model_sha256"] = sha256((folder / "model.safetensors").read_bytes())
        found["history"] = history(folder)
    if (folder / "thresholds.json").exists():
        found["thresholds"] = json.loads((folder / "thresholds.json").read_text())
    return found


def history(folder):
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def resumed(stopped, folder):
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "epochs_done_when_stopped": len(history(Path(stopped))),
        "model_sha256_when_stopped": sha256((Path(stopped) / "model.safetensors").read_bytes()),
        "history": history(folder),
        "model_sha256": sha256((folder / "model.safetensors").read_bytes()),
        "metrics": summary["metrics"],
        "thresholds": json.loads((folder / "thresholds.json").read_text()),
        "predictions_csv": (folder / "predictions.csv").read_text().splitlines(),
        "training": {key: value for key, value in summary["training"].items() if key != "seconds"},
        "predict": predicted(folder, "classification"),
    }


def compared(folder):
    """Without what a clock measured."""
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    cells = {}
    for cell in sorted((folder / "cells").iterdir()):
        weights = cell / "run" / "model.safetensors"
        cells[cell.name] = {
            "files": sorted(path.name for path in cell.iterdir()),
            "model_sha256": sha256(weights.read_bytes()) if weights.exists() else None,
        }
    return {"summary": summary, "results": rows, "cells": cells}


def machine():
    packages = json.loads(Path("classification_run/env.json").read_text())["packages"]
    return {"packages": packages, "note": "bit for bit only with the same packages and the same kind of processor"}


if __name__ == "__main__":
    resumed_run = Path("made/resumed")
    found = {"gossamer": "0.1.0", "machine": machine(), "artefacts": {}}
    for name, kind in (
        ("classification_run", "classification"), ("classification_bundle", "classification"),
        ("classification_bundle_int8", "classification"), ("multi_label_run", "multi_label"),
        ("multi_label_bundle", "multi_label"), ("segmentation_run", "segmentation"),
        ("segmentation_bundle", "segmentation"), ("segmentation_bundle_int8", "segmentation"),
        ("volumes_run", "volumes"), ("volumes_bundle", "volumes"),
    ):
        found["artefacts"][name] = artefact(name, kind)
    found["artefacts"]["classification_stopped"] = {"data": "data/classification", "resumed": resumed("classification_stopped", resumed_run)}
    found["artefacts"]["comparison"] = compared(Path("comparison"))
    found["artefacts"]["comparison_stopped"] = {"as_stored": compared(Path("comparison_stopped")), "resumed": compared(Path("made/comparison_resumed"))}
    imported = Path("imported")
    found["artefacts"]["imported"] = {"model_sha256": sha256((imported / "model.safetensors").read_bytes()), "counts": json.loads((imported / "import.json").read_text())["counts"]}
    Path("expected.json").write_text(json.dumps(found, indent=1) + "\n")
