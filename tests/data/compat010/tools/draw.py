"""Draws the data, all from one seed: python tools/draw.py"""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

SIDE = 28
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
SPLITS = ("train", "train", "train", "val", "test")  # of five patients


def background(rng, shape=(SIDE, SIDE)):
    return 90 + rng.normal(0, 18, shape)


def disc(rng, image, low=3, high=6, bright=(50, 90)):
    radius = rng.uniform(low, high)
    row, column = rng.uniform(radius + 1, SIDE - radius - 1, 2)
    inside = (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2
    image[inside] += rng.uniform(*bright)
    return inside


def bar(rng, image):
    row, column = rng.integers(2, SIDE - 12, 2)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[row : row + rng.integers(3, 6), column : column + rng.integers(7, 11)] = True
    image[inside] -= rng.uniform(45, 70)
    return inside


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.rint(array), 0, 255).astype(np.uint8)).save(path, optimize=True)


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def classification(root):
    """50 pictures of 25 patients, two classes, splits given."""
    rng, rows = np.random.default_rng(1), [("path", "label", "patient", "split")]
    for patient in range(25):
        for number in range(2):
            image, label = background(rng), ("clear", "nodule")[patient % 2]
            if label == "nodule":
                disc(rng, image, 2.5, 5, (20, 55))
            name = f"images/p{patient:02d}_{number}.png"
            save(root / name, image)
            rows.append((name, label, f"p{patient:02d}", SPLITS[patient // 2 % 5]))
    table(root / "manifest.csv", rows)


def multi_label(root):
    """50 pictures with any of two labels or none."""
    rng, rows = np.random.default_rng(2), [("path", "label", "patient", "split")]
    for number in range(50):
        image, labels = background(rng), []
        if number % 2:
            disc(rng, image, 2.5, 5, (20, 55))
            labels.append("disc")
        if number // 2 % 2:
            bar(rng, image)
            labels.append("bar")
        name = f"images/{number:02d}.png"
        save(root / name, image)
        rows.append((name, "|".join(labels) or "-", f"p{number:02d}", SPLITS[number // 4 % 5]))
    table(root / "manifest.csv", rows)


def segmentation(root):
    """25 pictures of 28 x 28 pixels and their masks, splits given."""
    rng = np.random.default_rng(3)
    rows = [("image", "patient", "split")]
    for number in range(25):
        image, mask = background(rng), np.zeros((SIDE, SIDE), np.uint8)
        mask[disc(rng, image, 4, 8)] = 1
        mask[bar(rng, image)] = 2
        name = f"{number:02d}.png"
        save(root / "images" / name, image)
        save(root / "masks" / name, mask)
        rows.append((name, f"p{number:02d}", SPLITS[number % 5]))
    table(root / "index.csv", rows)
    (root / "classes.json").write_text(json.dumps({"1": "disc", "2": "bar"}) + "\n")


def volumes(root):
    """8 volumes in the layout of the Decathlon, with spacings and a mirrored axis."""
    rng, entries = np.random.default_rng(4), []
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(8):
        shape = (20 + number % 3, 24, 5)
        where = np.indices(shape)
        image, mask = background(rng, shape) * 4, np.zeros(shape, np.uint8)
        centre = np.array([10 + rng.uniform(-2, 2), 12 + rng.uniform(-3, 3), 2.0])
        distance = (((where - centre[:, None, None, None]) / np.array([5, 6, 2.5])[:, None, None, None]) ** 2).sum(0)
        mask[distance <= 1] = 1
        image[mask == 1] += 300
        affine = np.diag([-1.5 if number % 2 else 1.5, 1.25, 4, 1])
        name = f"case_{number:03d}.nii.gz"
        for folder, array in (("imagesTr", image.astype(np.int16)), ("labelsTr", mask)):
            nibabel.save(nibabel.Nifti1Image(array, affine), root / folder / name)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    dataset = {
        "name": "Balls", "tensorImageSize": "3D", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "ball"},
        "numTraining": len(entries), "training": entries, "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n")


def weights(path):
    """A ViT as timm names its tensors, drawn at random: width 16, 2 blocks, 4 x 4 patches of 7 pixels, one channel."""
    import safetensors.torch
    import torch

    generator = torch.Generator().manual_seed(5)
    dim, shapes = 16, {"cls_token": (1, 1, 16), "pos_embed": (1, 17, 16)}

    def both(name, *shape):
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    both("patch_embed.proj", dim, 1, 7, 7)
    for index in range(2):
        block = f"blocks.{index}"
        both(f"{block}.norm1", dim)
        both(f"{block}.attn.qkv", 3 * dim, dim)
        both(f"{block}.attn.proj", dim, dim)
        both(f"{block}.norm2", dim)
        both(f"{block}.mlp.fc1", 4 * dim, dim)
        both(f"{block}.mlp.fc2", dim, 4 * dim)
    both("norm", dim)
    both("head", 2, dim)
    drawn = {
        name: torch.randn(shape, generator=generator) * 0.2 + ("norm" in name and "weight" in name)
        for name, shape in shapes.items()
    }
    safetensors.torch.save_file(drawn, path)


if __name__ == "__main__":
    data = Path("data")
    classification(data / "classification")
    multi_label(data / "multi_label")
    segmentation(data / "segmentation")
    volumes(data / "volumes")
    weights(data / "published.safetensors")
